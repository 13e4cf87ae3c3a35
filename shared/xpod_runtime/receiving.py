"""The receiving side of chunked transfers.

Knows: the transfers under way, their memory, their credit, when to give up on one.
Does not know: what the payload means; a finished one goes to whoever accepted it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from xpod_proto import Chunk, ChunkOpen, Credit, DecodeError, ErrorReply, Message, decode
from xpod_runtime.chunks import Assembly
from xpod_runtime.errors import Busy, MessageTooLarge, TransferFailed, XpodError
from xpod_runtime.inbox import Inbox
from xpod_runtime.wire import Frame

Post = Callable[[str, Message], None]
"""Sends a message to a subject, without waiting."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a receiver lets in. Sizes in bytes, times in seconds."""

    transfer_bytes: int = 256 * 1024 * 1024
    total_bytes: int = 1024 * 1024 * 1024
    transfers: int = 64
    window: int = 8
    """Chunks that may be under way at once."""
    patience: float = 10.0
    """A transfer without news for so long is given up."""


class Receiving:
    """All inbound transfers of one bus."""

    def __init__(self, inbox: Inbox, post: Post, limits: Limits) -> None:
        self._inbox = inbox
        self._post = post
        self._limits = limits
        self._transfers: dict[str, _Transfer] = {}

    def accept(
        self,
        opened: ChunkOpen,
        reply: str,
        complete: Callable[[memoryview], None],
        fail: Callable[[XpodError], None],
    ) -> None:
        """Starts a transfer; ends with `complete` or `fail`, and tells the sender at `reply` either way."""
        if opened.transfer in self._transfers:  # the bus delivered the opening twice
            return
        try:
            assembly = self._admit(opened)
        except XpodError as error:
            self._post(reply, ErrorReply(code=error.code, message=str(error)))
            fail(error)
            return
        transfer = _Transfer(
            self, opened=opened, assembly=assembly, reply=reply, complete=complete, fail=fail
        )
        self._transfers[opened.transfer] = transfer
        transfer.start()

    def close(self) -> None:
        """Drops everything under way without a word."""
        for transfer in list(self._transfers.values()):
            transfer.stop()

    def __len__(self) -> int:
        return len(self._transfers)

    def _admit(self, opened: ChunkOpen) -> Assembly:
        if len(self._transfers) >= self._limits.transfers:
            raise Busy(f"{len(self._transfers)} transfers are under way")
        if opened.total > self._limits.transfer_bytes:  # before the sum: it cannot ever be let in
            raise MessageTooLarge(f"{opened.total} bytes, at most {self._limits.transfer_bytes} are let in")
        held = sum(transfer.nbytes for transfer in self._transfers.values())
        if held + opened.total > self._limits.total_bytes:
            raise Busy(f"transfers hold {held} bytes")
        return Assembly(opened, max_bytes=self._limits.transfer_bytes)


class _Transfer:
    """One inbound transfer: chunks in, credit out, until it is whole, broken or silent."""

    def __init__(
        self,
        owner: Receiving,
        *,
        opened: ChunkOpen,
        assembly: Assembly,
        reply: str,
        complete: Callable[[memoryview], None],
        fail: Callable[[XpodError], None],
    ) -> None:
        self._owner, self._opened, self._assembly, self._reply = owner, opened, assembly, reply
        self._complete, self._fail = complete, fail
        self._subject = owner._inbox.open(self._deliver)
        self._granted = 0
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(owner._limits.patience, self._check_silence)

    @property
    def nbytes(self) -> int:
        return self._assembly.nbytes

    def start(self) -> None:
        self._advance()

    def stop(self) -> None:
        self._timer.cancel()
        self._owner._inbox.close(self._subject)
        self._owner._transfers.pop(self._opened.transfer, None)

    def _deliver(self, frame: Frame) -> None:
        self._heard = self._loop.time()
        try:
            message = decode(frame.data)
            if not isinstance(message, Chunk):
                raise TransferFailed(f"{type(message).__name__} in a stream of chunks")
            self._assembly.add(message)
        except (DecodeError, XpodError) as error:
            self._break_off(TransferFailed(str(error)))
            return
        self._advance()

    def _advance(self) -> None:
        if self._assembly.complete:
            self._finish()
            return
        window = self._owner._limits.window
        upto = min(self._opened.count, self._assembly.contiguous + window)
        # Every half window is often enough to keep the sender busy.
        if self._granted == 0 or upto - self._granted >= max(1, window // 2) or upto == self._opened.count:
            self._grant(upto)

    def _grant(self, upto: int) -> None:
        if upto > self._granted:
            self._granted = upto
            credit = Credit(transfer=self._opened.transfer, inbox=self._subject, upto=upto)
            self._owner._post(self._reply, credit)

    def _finish(self) -> None:
        try:
            payload = self._assembly.payload()
        except TransferFailed as error:
            self._break_off(error)
            return
        self._grant(self._opened.count + 1)
        self.stop()
        self._complete(payload)

    def _break_off(self, error: XpodError) -> None:
        self.stop()
        self._owner._post(self._reply, ErrorReply(code=error.code, message=str(error)))
        self._fail(error)

    def _check_silence(self) -> None:
        silent = self._loop.time() - self._heard
        if silent >= self._owner._limits.patience:
            self._break_off(TransferFailed(f"the sender was silent for {silent:.1f} s"))
            return
        self._timer = self._loop.call_later(self._owner._limits.patience - silent, self._check_silence)
