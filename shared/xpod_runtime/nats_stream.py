"""The byte stream of a NATS connection, with the messages taken out on the way in.

Knows: NATS's framing of MSG and HMSG, buffers. Does not know: subscriptions' meaning, requests, reconnection.

nats-py reads 32 KiB at a time and copies a payload six times before a callback runs, two tasks later. Here a
large payload is received straight into one buffer, used again for the next, and handed over in the same
turn of the loop; all else (INFO, PING, PONG, errors, messages nobody took) goes on to nats-py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from xpod_runtime.nats_headers import trace_in
from xpod_runtime.wire import Deliver, Frame

SCRATCH_BYTES = 256 * 1024
_CRLF = b"\r\n"
_NO_RESPONDERS = b"NATS/1.0 503"
log = structlog.get_logger(__name__)


class MessageStream(asyncio.BufferedProtocol):
    """Splits what the server sends: messages of taken subscriptions to their `Deliver`, the rest to `leftover`."""

    def __init__(self, takers: dict[int, Deliver], on_lost: Callable[[], None]) -> None:
        self.leftover = bytearray()
        """Bytes for nats-py."""
        self.ended = False
        self._takers = takers
        self._on_lost = on_lost
        self._scratch = bytearray(SCRATCH_BYTES)
        self._view = memoryview(self._scratch)
        self._end = 0
        self._line = b""
        self._large = memoryview(bytearray(SCRATCH_BYTES))
        self._payload: memoryview | None = None
        self._filled = 0
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # -- for the transport ------------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        return self._writable.is_set()

    async def until_writable(self) -> None:
        """Returns once the write buffer is below its limit, or the connection is lost."""
        await self._writable.wait()

    async def until_readable(self) -> None:
        """Returns once there is `leftover`, or the connection is lost."""
        while not self.leftover and not self.ended:
            self._readable.clear()
            await self._readable.wait()

    async def until_more(self) -> None:
        """Returns once something was added to `leftover`, or the connection is lost."""
        self._readable.clear()
        if not self.ended:
            await self._readable.wait()

    # -- for the event loop -----------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._payload is not None:
            return self._payload[self._filled :]
        return self._view[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._payload is None:
            self._end += nbytes
            self._split()
            return
        self._filled += nbytes
        if self._filled == len(self._payload):
            whole, self._payload = self._payload[:-2], None
            self._message(self._line, whole)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self._readable.set()
        self._writable.set()
        self._on_lost()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # -- framing ----------------------------------------------------------------------------------------

    def _split(self) -> None:
        """Takes every complete frame out of the scratch buffer; keeps the incomplete rest at its start."""
        position = 0
        while (eol := self._scratch.find(_CRLF, position, self._end)) >= 0:
            line = bytes(self._view[position:eol])
            if not line.startswith((b"MSG ", b"HMSG ")):
                self._pass_on(self._view[position : eol + 2])
                position = eol + 2
                continue
            start, size = eol + 2, int(line[line.rindex(b" ") + 1 :])
            if start + size + 2 > self._end:
                position = self._await_payload(line, position, start, size)
                break
            self._message(line, self._view[start : start + size])
            position = start + size + 2
        self._keep(position)

    def _await_payload(self, line: bytes, position: int, start: int, size: int) -> int:
        """Receives a large payload into the buffer for such; returns from where scratch bytes stay."""
        if size < SCRATCH_BYTES // 4:  # not worth a buffer of its own
            return position
        if len(self._large) < size + 2:
            self._large = memoryview(bytearray(size + 2))
        self._line = line
        self._payload = self._large[: size + 2]
        self._filled = self._end - start
        self._payload[: self._filled] = self._view[start : self._end]
        return self._end

    def _keep(self, position: int) -> None:
        rest = self._end - position
        if position and rest:
            self._scratch[:rest] = self._scratch[position : self._end]
        elif rest == SCRATCH_BYTES:  # a line longer than any in the protocol: nats-py will refuse it
            self._pass_on(self._view)
            rest = 0
        self._end = rest

    def _message(self, line: bytes, payload: memoryview) -> None:
        parts = line.split()  # MSG subject sid [reply] size, or HMSG subject sid [reply] header-size size
        deliver = self._takers.get(int(parts[2]))
        if deliver is None:
            self._pass_on(b"".join((line, _CRLF, payload, _CRLF)))
            return
        with_header = parts[0] == b"HMSG"
        reply = parts[3].decode() if len(parts) == (6 if with_header else 5) else ""
        refused, trace = False, ""
        if with_header:
            header, payload = payload[: int(parts[-2])], payload[int(parts[-2]) :]
            refused = bytes(header[:12]) == _NO_RESPONDERS and not payload
            trace = trace_in(bytes(header))
        _hand_over(deliver, Frame(parts[1].decode(), reply, payload, refused, trace))

    def _pass_on(self, data: bytes | memoryview) -> None:
        self.leftover += data
        self._readable.set()


def _hand_over(deliver: Deliver, frame: Frame) -> None:
    try:
        deliver(frame)
    except Exception:  # a bug in the receiver must not end the connection
        log.exception("frame lost", subject=frame.subject)
