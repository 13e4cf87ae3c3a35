"""A process that starts again gives way to those that serve meanwhile.

Where the kernel shares time between sessions first (sched_autogroup, Linux), one that is starting gets a smaller share.
Knows: who should, and how to ask for that. Does not know: members.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

SLOW_KINDS = frozenset({"expert", "prefill", "decode"})
"""They load torch and weights. Others serve at once: a NATS node that gives way holds up whoever reconnects to it."""
NICE = 5
"""About a third of the share of others (sched(7))."""
SECONDS = 6.0
TRIES, AGAIN_SECONDS = 100, 0.15
"""The kernel takes such a wish ten times a second, whosever it is."""


async def give_way(pid: int, proc: Path = Path("/proc")) -> None:
    """For a while, from now on, the session that `pid` leads has a smaller share of processors than others."""
    autogroup = proc / str(pid) / "autogroup"
    await _wish(autogroup, NICE)
    try:
        await asyncio.sleep(SECONDS)
    finally:
        await _wish(autogroup, 0)


async def _wish(autogroup: Path, nice: int) -> None:
    """Says it until the kernel listens."""
    for _ in range(TRIES):
        if _taken(autogroup, nice):
            return
        await asyncio.sleep(AGAIN_SECONDS)


def _taken(autogroup: Path, nice: int) -> bool:
    """False: later. Where there are no such shares, or no such process any more, there is nothing to wait for."""
    try:
        autogroup.write_text(str(nice))
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
