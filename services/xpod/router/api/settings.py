"""What a deployment decides about the HTTP face.

Knows: names and defaults. Does not know: where the values come from, or who listens on which port.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """`served_model_names` empty means the engine's own name; times are in seconds."""

    version: str = "0"
    api_key: str | None = None
    served_model_names: tuple[str, ...] = ()
    max_body_bytes: int = 16 << 20
    keep_alive: float = 5.0
    max_choices: int = 1024
