"""What every endpoint is given.

Knows: the engine, the tokenizer, the settings and the metrics of one router.
Does not know: any endpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

from xpod.router.api.engine_protocol import Engine
from xpod.router.api.errors import ApiError
from xpod.router.api.metrics import Metrics
from xpod.router.api.settings import ApiSettings
from xpod.router.api.text_protocol import Text


@dataclass(frozen=True, slots=True)
class Api:
    """Handed to the routes when the app is made."""

    engine: Engine
    text: Text
    settings: ApiSettings
    metrics: Metrics
    started: int

    @property
    def model_names(self) -> tuple[str, ...]:
        return self.settings.served_model_names or (self.engine.model_name,)

    def served(self, model: str | None) -> str:
        """The name to answer under; no name means the first. Refuses names that are not served."""
        if model is None:
            return self.model_names[0]
        if model in self.model_names:
            return model
        known = ", ".join(self.model_names)
        raise ApiError(
            404, f"model {model!r} is not served here, only {known}", param="model", code="model_not_found"
        )
