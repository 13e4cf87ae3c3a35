"""Whether a node's books agree with one another and with what it has."""

from __future__ import annotations

from xpod.mempool.allocation import Allocation
from xpod.mempool.tiers import Tiers
from xpod_runtime.errors import XpodError


class Broken(XpodError):
    """They do not."""

    code = "invariant"


def check(tiers: Tiers, allocation: Allocation | None = None) -> None:
    """Raises Broken. May be called between any two turns of the event loop."""
    promised = allocation.rooms.bytes if allocation is not None else tiers.memory.reserved
    try:
        tiers.memory.check()
        tiers.disk.index.check()
        if allocation is not None:
            allocation.rooms.check()
    except AssertionError as error:
        raise Broken(str(error) or "the books do not add up") from error
    here = set(tiers.memory) | set(tiers.disk)
    for fine, what in (
        (tiers.names() == here, "what is said to be here is not what is here"),
        (here.issuperset(tiers.leases), "a block is leased that is not here"),
        (promised <= tiers.memory.reserved, "room was promised that is not reserved"),
    ):
        if not fine:
            raise Broken(what)
