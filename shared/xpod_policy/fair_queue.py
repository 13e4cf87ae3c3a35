"""Who is next of those that wait: tenants in turn, by what they ask for, so that one who asks for much waits alone.

Source: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996), with tenants as flows: a tenant's next request
begins, in virtual time, where its last one ended, and the one that begins first is next. Within a tenant, the lowest
priority number is first, then whoever came first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


@dataclass(slots=True)
class _Line:
    """One tenant's requests, and when its next one begins in virtual time."""

    begins: float
    waiting: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Request(Generic[T]):
    item: T
    tenant: str
    cost: float


class FairQueue(Generic[T]):
    """Requests that wait; each `item` once."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._requests: dict[int, _Request[T]] = {}
        self._numbers: dict[T, int] = {}
        self._count = count()
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._requests)

    def push(self, item: T, tenant: str, cost: float, priority: int = 0) -> None:
        """`cost` is above 0, in any unit."""
        assert item not in self._numbers
        line = self._lines.setdefault(tenant, _Line(self._now))
        if not line.waiting:  # who did not wait saves nothing up
            line.begins = max(line.begins, self._now)
        number = self._numbers[item] = next(self._count)
        self._requests[number] = _Request(item, tenant, cost)
        heapq.heappush(line.waiting, (priority, number))

    def pop(self, allowed: Callable[[str], bool] = lambda tenant: True) -> T | None:
        """The next one, of tenants that are allowed; None: there is none."""
        able = [
            (line.begins, line.waiting[0][1], tenant) for tenant, line in self._lines.items() if line.waiting
        ]
        chosen = min((each for each in able if allowed(each[2])), default=None)
        if chosen is None:
            return None
        line = self._lines[chosen[2]]
        _, number = heapq.heappop(line.waiting)
        request = self._requests.pop(number)
        del self._numbers[request.item]
        self._now = max(self._now, line.begins)
        line.begins += request.cost
        self._forget_old()
        return request.item

    def remove(self, item: T) -> bool:
        """It waits no more; False: it did not."""
        number = self._numbers.pop(item, None)
        if number is None:
            return False
        line = self._lines[self._requests.pop(number).tenant]
        line.waiting = [each for each in line.waiting if each[1] != number]
        heapq.heapify(line.waiting)
        self._forget_old()
        return True

    def _forget_old(self) -> None:
        """Tenants that nothing distinguishes from new ones."""
        old = [name for name, line in self._lines.items() if not line.waiting and line.begins <= self._now]
        for name in old:
            del self._lines[name]
