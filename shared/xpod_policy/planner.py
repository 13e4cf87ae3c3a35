"""When to place experts anew: at once when a shard is lost, a moment after the last one joined.

A pod that starts would otherwise load every expert into its first shard and move most of them again.
Times are seconds of any one clock, handed in by the caller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Planner:
    """Fed with the set of live shards; says when the next placement is due."""

    settle: float = 0.75
    _shards: frozenset[str] = frozenset()
    _due: float = math.inf

    def observe(self, shards: frozenset[str], now: float) -> None:
        """These shards are there at `now`."""
        if shards == self._shards:
            return
        lost = bool(self._shards - shards)
        self._due = min(self._due, now) if lost else now + self.settle
        self._shards = shards

    def again(self, now: float) -> None:
        """What was placed does not hold any more, whoever is there."""
        self._due = min(self._due, now)

    def take(self, now: float) -> frozenset[str] | None:
        """The shards to place on, once, if a placement is due."""
        if now < self._due:
            return None
        self._due = math.inf
        return self._shards
