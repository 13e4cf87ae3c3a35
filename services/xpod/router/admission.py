"""Which sessions may go to prefill workers now: as much as keeps these busy; the others wait here, in turn.

Workers compute the prompts of tenants in turn, but give their slots in order of arrival: whoever sends most would have
most of them. What waits here is let in by tenant (see `fair_queue`). Knows: who waits, what is under way. Does not
know: workers, or what sessions do.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xpod.router.api.engine_protocol import Overloaded
from xpod_policy.fair_queue import FairQueue

WAIT_FOR_DECODE = 8
"""A tenant with so many sessions that are prefilled and find no decode worker sends no more of them there."""
LEAST_COST = 64
"""Of a prompt in tokens, however short: slots are few, too."""


class Pass:
    """One session's way to a prefill worker: `granted` returns when it may go; `leave` when it is through, or gone."""

    def __init__(self, admission: Admission, tenant: str, cost: int) -> None:
        self.tenant, self.cost = tenant, cost
        self._admission = admission
        self._granted = asyncio.Event()

    async def granted(self) -> None:
        """Returns when it may go, or has left."""
        await self._granted.wait()

    def grant(self) -> None:
        """It may go."""
        self._granted.set()

    def leave(self) -> None:
        """It waits for no prefill any more. Idempotent."""
        self._granted.set()
        self._admission.left(self)


class Admission:
    """`room()` says how many prompt tokens may be under way at once.

    Of each tenant one session always may, and as many as its equal share of the room has place for.
    """

    def __init__(self, room: Callable[[], float]) -> None:
        self._room = room
        self._queue: FairQueue[Pass] = FairQueue()
        self._under_way: defaultdict[str, set[Pass]] = defaultdict(set)
        self._homeless: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._queue)

    def enter(self, tenant: str, cost: int, priority: int = 0) -> Pass:
        """A session of that tenant, with so many prompt tokens to compute, waits for its turn."""
        entered = Pass(self, tenant, max(LEAST_COST, cost))
        self._queue.push(entered, tenant, entered.cost, priority)
        self.look()
        return entered

    def left(self, who: Pass) -> None:
        """It is through, or gone."""
        if not self._queue.remove(who):
            self._under_way[who.tenant].discard(who)
        self.look()

    @contextmanager
    def homeless(self, tenant: str) -> Iterator[None]:
        """One more of a tenant's sessions is prefilled and finds no decode worker."""
        self._homeless[tenant] += 1
        try:
            yield
        finally:
            self._homeless[tenant] -= 1
            self.look()

    def look(self) -> None:
        """Let in whoever there is room for; call it when there may be more."""
        while (who := self._queue.pop(self._may_go)) is not None:
            self._under_way[who.tenant].add(who)
            who.grant()

    def _may_go(self, tenant: str) -> bool:
        """Workers compute tenants' prompts in turn, too: who has none there need not wait for the others'."""
        if self._homeless[tenant] >= WAIT_FOR_DECODE:
            return False
        own = self._cost_of(tenant)
        if not own:
            return True
        here = [name for name, passes in self._under_way.items() if passes]
        room = self._room()
        return own < room / len(here) or sum(map(self._cost_of, here)) < room

    def _cost_of(self, tenant: str) -> int:
        """What it has under way."""
        return sum(each.cost for each in self._under_way[tenant])


class Limit:
    """How many sessions there may be at once: beyond `most` in all, a tenant keeps to its equal share of them."""

    def __init__(self, most: int) -> None:
        self._most = most

    def check(self, tenant: str, live: Counter[str], retry_after: float) -> None:
        """Raises Overloaded."""
        if live.total() < self._most:
            return
        share = self._most / len(live.keys() | {tenant})
        if live[tenant] >= share:
            raise Overloaded(retry_after)
