"""The sending side of one chunked transfer.

Knows: which chunks are out, how far the receiver's credit reaches, what ends the transfer.
Does not know: the bus that owns it; it is given a function to send with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from xpod_proto import Credit, ErrorReply, Message, pieces_of
from xpod_runtime.chunks import Cut
from xpod_runtime.errors import BusError, MessageTooLarge, RemoteError, TransferFailed
from xpod_runtime.wire import Pieces

SendTo = Callable[[str, Pieces], Awaitable[None]]


def error_of(reply: ErrorReply) -> RemoteError | BusError:
    """The exception that stands for a peer's error."""
    for kind in (TransferFailed, MessageTooLarge):
        if reply.code == kind.code:
            return kind(reply.message)
    return RemoteError(reply.code, reply.message)


class Sending:
    """Streams `cut` within the receiver's credit. `done` holds the answer, or the proof of arrival.

    Credit reaching past the last chunk (`upto` > count) says that the receiver has verified the whole.
    """

    def __init__(self, cut: Cut, *, wants_answer: bool, patience: float) -> None:
        self.done: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        self._cut = cut
        self._wants_answer = wants_answer
        self._patience = patience
        self._inbox = ""
        self._upto = 0
        self._changed = asyncio.Event()

    def receive(self, message: Message) -> None:
        """Takes credit, the answer, or an error."""
        if isinstance(message, Credit):
            self._credit(message)
        elif isinstance(message, ErrorReply):
            self.fail(error_of(message))
        elif not self.done.done():
            self.done.set_result(message)
        self._changed.set()

    def fail(self, error: Exception) -> None:
        """Ends the transfer with `error`."""
        if not self.done.done():
            self.done.set_exception(error)
        self._changed.set()

    async def run(self, send: SendTo) -> Message | None:
        """Streams all chunks, then waits for the end. Raises what ended it; TransferFailed on silence."""
        try:
            for index in range(1, self._cut.count):
                await self._wait_for(lambda index=index: index < self._upto)  # type: ignore[misc]
                if self.done.done():
                    break
                await send(self._inbox, pieces_of(self._cut.chunk(index)))
            await self._wait_for(lambda: self._wants_answer)
            return await self.done
        finally:
            self._abandon()

    def _credit(self, credit: Credit) -> None:
        if self._inbox and credit.inbox != self._inbox:
            self.fail(TransferFailed("several receivers took one chunked message; send it to a mailbox"))
        self._inbox = credit.inbox
        self._upto = max(self._upto, credit.upto)
        if credit.upto > self._cut.count and not self._wants_answer and not self.done.done():
            self.done.set_result(None)

    async def _wait_for(self, ready: Callable[[], bool]) -> None:
        while not ready() and not self.done.done():
            self._changed.clear()
            try:
                async with asyncio.timeout(self._patience):
                    await self._changed.wait()
            except TimeoutError:
                self.fail(TransferFailed(f"the receiver was silent for {self._patience:g} s"))

    def _abandon(self) -> None:
        # Nobody will look at `done` any more: do not let asyncio complain about an unread exception.
        if self.done.done() and not self.done.cancelled():
            self.done.exception()
        self.done.cancel()
