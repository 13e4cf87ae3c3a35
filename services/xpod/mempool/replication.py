"""Sees to it that a node's blocks are where they should be when nodes come and go.

What is due is decided by `xpod_policy.duties`; it is done in the background, a few blocks at a time and not faster than
allowed. A node that does not answer is asked again, and a change of the nodes begins anew: nothing raises.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from math import inf

import structlog

from xpod.mempool.peers import Peers
from xpod.mempool.tiers import Tiers
from xpod_policy.duties import Duties
from xpod_policy.pacing import Pace
from xpod_runtime.errors import XpodError

TOGETHER = 256
"""Blocks that are looked at in one turn."""
GATHER_SECONDS = 0.1
RETRY_SECONDS = 1.0
SETTLING_SECONDS = 2.0
"""For so long after a change, others may store blocks by what the nodes were before."""
log = structlog.get_logger(__name__)


class Replication:
    """Of the node `member`; `nodes()` are the incarnations of all nodes by name, its own among them.

    Call `changed` whenever they may be others, and `added` for each block that comes. `rate` is in bytes a second.
    """

    def __init__(
        self, member: str, tiers: Tiers, peers: Peers, *, nodes: Callable[[], Mapping[str, str]], rate: float
    ) -> None:
        self._tiers, self._peers, self._nodes = tiers, peers, nodes
        self._duties = Duties(member)
        self._pace = Pace(rate)
        self._changed = False
        self._woken = asyncio.Event()
        self._unlooked = 0
        self._settled_at = 0.0
        self._late: set[bytes] = set()

    @property
    def lag(self) -> int:
        """Blocks that are still to be looked at or copied."""
        return len(self._duties) + self._unlooked

    def changed(self) -> None:
        """A node came or went."""
        self._changed = True
        self._woken.set()
        self._unlooked = len(self._tiers)
        self._settled_at = self._tiers.clock() + SETTLING_SECONDS

    def added(self, name: bytes) -> None:
        """A block came."""
        if self._tiers.clock() < self._settled_at:
            self._late.add(name)
            self._woken.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._until_due()
            while self._changed:
                await asyncio.sleep(GATHER_SECONDS)
                self._changed = False
                await self._consider()
            await self._copy()

    async def _until_due(self) -> None:
        """Returns when the nodes changed, or when it is time to ask again, or to look at what came late."""
        clock = self._tiers.clock
        again_at = clock() + RETRY_SECONDS if self._duties else inf
        while not self._changed:
            due_at = min(again_at, self._settled_at if self._late else inf)
            if clock() >= due_at:
                break
            self._woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(due_at - clock() if due_at < inf else None):
                    await self._woken.wait()
        if clock() >= self._settled_at:
            self._duties.look_at(self._late)
            self._late.clear()

    async def _consider(self) -> None:
        """Find out what is due. Where the nodes change meanwhile, all that was not looked at is."""
        if not self._duties.nodes_are(self._nodes()):
            self._unlooked = 0
            return
        names = iter(self._tiers.names())
        while part := list(islice(names, TOGETHER)):
            await asyncio.sleep(0)
            if self._changed:
                self._duties.look_at([*part, *names])
                return
            self._duties.consider(part)
            self._unlooked = max(0, self._unlooked - len(part))
        self._unlooked = 0

    async def _copy(self) -> None:
        names = iter(self._duties.in_order(self._tiers.memory.frequency))
        while not self._changed and (part := list(islice(names, TOGETHER))):
            await self._see_to(part)

    async def _see_to(self, names: Sequence[bytes]) -> None:
        """Do the duties of these, as far as others answer."""
        here = [name for name in names if name in self._tiers]
        duties = {name: self._duties.duty(name) for name in here}
        asked: dict[str, list[bytes]] = defaultdict(list)
        for name, duty in duties.items():
            for node in duty.others:
                asked[node].append(name)
        there: dict[str, set[bytes]] = {}
        for node, wanted in asked.items():
            try:
                there[node] = await self._peers.give(node, wanted, self._wait)
            except XpodError as error:
                log.info(
                    "blocks not copied", node=node, blocks=len(wanted), code=error.code, error=str(error)
                )
        done = {name for name in names if name not in duties or there.keys() >= set(duties[name].others)}
        strays = [name for name in done if name in duties and not duties[name].keep]
        leased = {name for name in strays if name in self._tiers.leases}
        whole = [name for name in strays if all(name in there[node] for node in duties[name].others)]
        if not self._changed:  # or else it may be one of the homes again
            self._tiers.delete([name for name in whole if name not in leased])
        self._duties.done(done - leased)

    async def _wait(self, size: int) -> None:
        if wait := self._pace.wait(size, self._tiers.clock()):
            await asyncio.sleep(wait)
