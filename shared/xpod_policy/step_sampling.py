"""Which steps of a batch are looked into, for which of its sequences.

Each sequence has its first step looked into, and then one of `every`. A step is looked into for one sequence at most,
and for those that were seen before, not every step: so what it costs is bounded, however many sequences there are.
Knows nothing of spans.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

REST = 8
"""After a step that was looked into, `every` / REST - 1 are not, but for newcomers."""


class StepSampling:
    """`choose` once a step."""

    def __init__(self, every: int) -> None:
        self._every, self._rest = every, max(1, every // REST)
        self._step = 0
        self._last: float = -math.inf
        self._seen: dict[str, int] = {}

    def choose(self, ids: Sequence[str]) -> str | None:
        """Of the sequences in this step that may be looked into, the one that waited longest; None: not this step."""
        self._step += 1
        if not ids:
            return None
        longest = min(ids, key=lambda id: self._seen.get(id, -1))
        seen = self._seen.get(longest)
        if seen is not None and (self._step - seen < self._every or self._step - self._last < self._rest):
            return None
        self._last = self._seen[longest] = self._step
        return longest

    def leave(self, id: str) -> None:
        """It takes part in no more steps."""
        self._seen.pop(id, None)
