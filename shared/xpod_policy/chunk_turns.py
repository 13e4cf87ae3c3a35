"""Whose chunks of prompts come first in a step, and how large it may be, where several tenants share a worker.

As in `fair_queue`, tenants have their turns by what was computed for them. Whoever comes back waits for the step that
runs: so while others were here lately, one tenant alone gets only its share of a step.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

RECENT_STEPS = 64
"""A tenant without prompts counts for so many steps more."""


@dataclass(slots=True)
class _Tenant:
    begins: float
    """Its next chunk, in virtual time: tokens computed for each of those that are here."""
    arrived: int
    last_step: int


@dataclass(slots=True)
class ChunkTurns:
    """Call `arrives` for tenants that had no prompts here, and `step` once a step with those that have."""

    _tenants: dict[str, _Tenant] = field(default_factory=dict)
    _now: float = 0.0
    _steps: int = 0
    _arrivals: int = 0

    def arrives(self, tenant: str) -> None:
        """It has prompts again."""
        self._arrivals += 1
        known = self._tenants.get(tenant)
        begins = self._now if known is None else max(known.begins, self._now)
        self._tenants[tenant] = _Tenant(begins, self._arrivals, self._steps)

    def step(self, here: Collection[str], max_tokens: int) -> tuple[dict[str, int], int]:
        """The place of each of the tenants that are `here`, and how many tokens the next step may have."""
        self._steps += 1
        for name in here:
            self._tenants[name].last_step = self._steps
        old = [name for name, each in self._tenants.items() if self._steps - each.last_step > RECENT_STEPS]
        for name in old:
            del self._tenants[name]
        ranked = sorted(here, key=lambda name: (self._tenants[name].begins, -self._tenants[name].arrived))
        if ranked:
            self._now = max(self._now, self._tenants[ranked[0]].begins)
        shares = len(self._tenants) if len(here) == 1 else 1
        return {name: place for place, name in enumerate(ranked)}, max(1, max_tokens // shares)

    def computed(self, tenant: str, tokens: int) -> None:
        """So many tokens of its prompts."""
        known = self._tenants.get(tenant)
        if known is not None:
            known.begins += tokens
