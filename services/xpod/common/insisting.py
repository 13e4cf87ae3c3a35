"""Asking until there is an answer: what a dying or hung NATS node had of a question or its answer is lost.

Knows: which failures pass by themselves. Does not know: who is asked, or how it is known that they are down.
Whatever is asked this way must do the same twice as once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from xpod_runtime.errors import BusError, DeadlineExceeded, Disconnected, NoResponders, XpodError

T = TypeVar("T")
AGAIN_SECONDS = 0.35
"""Until the second question; then twice as long each time, so that who is only slow is not given ever more to do."""
RECONNECT_SECONDS = 0.05


class News:
    """What becomes known, while somebody insists, of whoever is asked."""

    def __init__(self) -> None:
        self.over: asyncio.Future[XpodError] = asyncio.get_running_loop().create_future()
        self.back: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def falls(self, error: XpodError) -> None:
        """It is down: nobody waits for it."""
        if not self.over.done():
            self.over.set_result(error)

    def returns(self) -> None:
        """It was cut off and is back: what it was asked meanwhile did not arrive."""
        if not self.back.done():
            self.back.set_result(None)


async def insist(
    ask: Callable[[float], Coroutine[Any, Any, T]], *, timeout: float, news: News, there: Callable[[], bool]
) -> T:
    """The first answer to `ask`, which is told how many seconds it has left and called again and again.

    Nobody listens, or the connection was lost: that passes while `there` says that somebody should be there. Raises
    what `news` is over with, the last passing failure once `timeout` seconds are gone, and what `ask` raises besides.
    """
    over = news.over
    deadline, again = time.monotonic() + timeout, AGAIN_SECONDS
    asking: set[asyncio.Task[T]] = set()
    failure: BusError = DeadlineExceeded("no time to ask in")
    try:
        while not over.done():
            left = deadline - time.monotonic()
            if left > 0:
                asking.add(asyncio.create_task(ask(left)))
            elif not asking:
                raise failure
            waited: set[asyncio.Future[Any]] = {over, news.back, *asking}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED, timeout=again)
            again *= 2
            if news.back.done():
                news.back, again = asyncio.get_running_loop().create_future(), AGAIN_SECONDS
            for one in [one for one in asking if one.done()]:
                asking.discard(one)
                try:
                    return one.result()
                except (NoResponders, Disconnected) as error:
                    failure, again = error, AGAIN_SECONDS
                    if not there():
                        raise
                    await asyncio.wait({over}, timeout=RECONNECT_SECONDS)
        raise over.result()
    finally:
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
