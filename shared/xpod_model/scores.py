"""How likely the tokens of a prompt are, collected while its chunks are computed.

Knows: which token follows which position, and that logits of a whole prompt at once would be too large. Does not know:
how logits are computed, or who asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from xpod_model.sampler import Sampled, likelihood

TILE_ROWS = 64
"""Positions whose logits are there at once."""


@dataclass(slots=True, eq=False)
class Scores:
    """Of each token of `prompt` but the first, its log probability and the `alternatives` likeliest."""

    prompt: Sequence[int]
    alternatives: int
    _found: dict[int, Sampled] = field(default_factory=dict)

    def take(self, start: int, logits: Tensor) -> None:
        """`logits` [n, V] are those at positions start … start + n - 1."""
        for row, position in zip(logits, range(start, len(self.prompt) - 1), strict=False):
            self._found[position + 1] = likelihood(row, self.prompt[position + 1], self.alternatives)

    def whole(self) -> list[Sampled]:
        """In order; all positions have been taken."""
        return [self._found[position] for position in range(1, len(self.prompt))]
