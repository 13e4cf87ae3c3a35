"""What a deployment decides about the HTTP face.

Knows: names and defaults. Does not know: where the values come from, or who listens on which port.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """`api_key` holds one key or several with commas, the file more; no `served_model_names`: the engine's; seconds."""

    version: str = "0"
    api_key: str | None = None
    api_keys_file: Path | None = None
    served_model_names: tuple[str, ...] = ()
    sampling_defaults: Mapping[str, float] = field(default_factory=dict)
    """Temperature and the like for requests that do not say."""
    max_body_bytes: int = 16 << 20
    body_seconds: float = 30.0
    """A body may take so long, and as long again for each half megabyte."""
    keep_alive: float = 5.0
    max_choices: int = 1024

    @property
    def api_keys(self) -> tuple[str, ...]:
        """The keys of the settings."""
        return tuple(key.strip() for key in (self.api_key or "").split(",") if key.strip())
