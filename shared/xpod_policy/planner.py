"""When to place experts anew: a moment after the last shard joined, and some seconds after one was lost.

A pod that starts would otherwise load every expert into its first shard and move most of them again. And a shard that
was lost is mostly started again: to load its experts elsewhere meanwhile takes the processors from those who serve, for
copies that are dropped seconds later. Only where an expert is left without a holder is there no time to lose.
Times are seconds of any one clock, handed in by the caller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Planner:
    """Fed with the set of live shards; says when the next placement is due.

    It is due `settle` after shards joined; `patience` after one was lost, unless it is back by then.
    """

    settle: float = 0.75
    patience: float = 5.0
    _shards: frozenset[str] = frozenset()
    _missed: frozenset[str] = frozenset()
    _due: float = math.inf

    @property
    def waits(self) -> bool:
        """Is a shard that was lost given time to come back?"""
        return bool(self._missed)

    def observe(self, shards: frozenset[str], now: float) -> None:
        """These shards are there at `now`."""
        if shards == self._shards:
            return
        lost = self._shards - shards
        self._missed = (self._missed | lost) - shards
        if lost:
            self._due = min(self._due, now + self.patience)
        elif not self._missed:
            self._due = now + self.settle
        self._shards = shards

    def again(self, now: float) -> None:
        """What was placed does not hold any more, whoever is there."""
        self._due = min(self._due, now)

    def take(self, now: float) -> frozenset[str] | None:
        """The shards to place on, once, if a placement is due."""
        if now < self._due:
            return None
        self._due = math.inf
        self._missed = frozenset()
        return self._shards
