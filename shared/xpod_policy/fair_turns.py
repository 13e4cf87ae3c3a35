"""Whose turn it is where work of several tenants is done in pieces: by what was done for each.

Source: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996), as in `fair_queue`, but who was away has a little
in advance: so whoever asks for little is before those who always ask for more.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class _Tenant:
    begins: float
    """Its next piece, in virtual time: work done for each of those that are here."""
    arrived: int


@dataclass(slots=True)
class FairTurns(Generic[K]):
    """Call `arrives` for tenants that had nothing here. `advance` and work are in any one unit."""

    advance: float
    _tenants: dict[K, _Tenant] = field(default_factory=dict)
    _now: float = 0.0
    _arrivals: int = 0

    def arrives(self, tenant: K, here: Collection[K]) -> None:
        """It has something to do again; those that are `here` have, too."""
        self._arrivals += 1
        saved = self._now - self.advance
        for name in [
            name for name, each in self._tenants.items() if each.begins <= saved and name not in here
        ]:
            del self._tenants[name]  # it would have no less if it came now
        known = self._tenants.get(tenant)
        self._tenants[tenant] = _Tenant(saved if known is None else max(known.begins, saved), self._arrivals)

    def ranked(self, here: Iterable[K]) -> list[K]:
        """Those that are `here` in order of their turns, as they have them now."""
        ranked = sorted(here, key=lambda name: (self._tenants[name].begins, self._tenants[name].arrived))
        if ranked:
            self._now = max(self._now, self._tenants[ranked[0]].begins)
        return ranked

    def is_before(self, tenant: K, others: Iterable[K]) -> bool:
        """Would its turn have been before that of all of these?"""
        first = min((self._tenants[other].begins for other in others), default=-math.inf)
        return self._tenants[tenant].begins < first

    def did(self, tenant: K, amount: float) -> None:
        """So much of its work."""
        known = self._tenants.get(tenant)
        if known is not None:
            known.begins += amount
