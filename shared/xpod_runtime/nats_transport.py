"""The TCP transport below nats-py, which lets frames pass it by.

Knows: nats-py's transport interface, sockets. Does not know: framing (see `nats_stream`) or messages.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from urllib.parse import ParseResult

from nats.aio.transport import Transport

from xpod_runtime.nats_stream import MessageStream
from xpod_runtime.wire import Deliver, Pieces

WRITE_HIGH_BYTES = 2 * 1024 * 1024
"""A sender waits while more than this is unsent."""
MOST_PIECES = 512
"""More than the operating system takes at once would be refused (IOV_MAX, 1024)."""
NO_SOCKET = -1


class DirectTransport(Transport):
    """One for all connections of a client, one after another. `takers` maps subscription ids to receivers."""

    def __init__(self) -> None:
        self.takers: dict[int, Deliver] = {}
        self._stream: MessageStream | None = None
        self._socket: asyncio.WriteTransport | None = None
        self._lost: asyncio.Event = asyncio.Event()
        self._direct = NO_SOCKET
        """The descriptor to write to, open until the stream has ended; none while TLS stands between."""

    @property
    def is_open(self) -> bool:
        """Is there a connection, and has it not ended?"""
        return self._stream is not None and not self._stream.ended

    def publish(self, head: bytes, pieces: Pieces, size: int) -> bool:
        """Sends one message of `size` bytes behind its `head`; False: now wait `until_writable`.

        Into the socket at once where it takes it, which needs no copy and no other turn of the loop.
        """
        stream, transport = self._open()
        parts = (head, *pieces, b"\r\n")
        direct = self._direct >= 0 and not stream.ended and len(parts) <= MOST_PIECES
        if not direct or transport.get_write_buffer_size():
            transport.write(b"".join(parts))
            return stream.writable
        try:
            sent = os.writev(self._direct, parts)
        except OSError:  # full, or broken: the event loop finds out which
            sent = 0
        if sent < size + len(parts[0]) + 2:
            transport.write(memoryview(b"".join(parts))[sent:])
        return stream.writable

    async def until_writable(self) -> None:
        """Returns once the connection is not congested, or lost."""
        await self._open()[0].until_writable()

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: float) -> None:
        self.close()  # an attempt that came to nothing may have left its connection open
        lost = asyncio.Event()
        stream = MessageStream(self.takers, lost.set)
        loop = asyncio.get_running_loop()
        assert uri.port is not None
        assert uri.hostname is not None
        async with asyncio.timeout(connect_timeout):
            socket, _ = await loop.create_connection(lambda: stream, uri.hostname, uri.port)
        socket.set_write_buffer_limits(WRITE_HIGH_BYTES)
        self._stream, self._socket, self._lost = stream, socket, lost
        self._direct = socket.get_extra_info("socket").fileno()

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: float
    ) -> None:
        stream, socket = self._open()
        hostname = uri if isinstance(uri, str) else uri.hostname
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(connect_timeout):
            secured = await loop.start_tls(socket, stream, ssl_context, server_hostname=hostname)
        assert secured is not None
        self._socket, self._direct = secured, NO_SOCKET

    def write(self, payload: bytes) -> None:
        self._living().write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        self._living().writelines(payload)

    async def read(self, buffer_size: int) -> bytes:
        stream, _ = self._open()
        await stream.until_readable()
        data = bytes(stream.leftover)
        stream.leftover.clear()
        return data

    async def readline(self) -> bytes:
        stream, _ = self._open()
        while (end := stream.leftover.find(b"\n")) < 0 and not stream.ended:
            await stream.until_more()
        line = bytes(stream.leftover[: end + 1])
        del stream.leftover[: end + 1]
        return line

    async def drain(self) -> None:
        stream, _ = self._open()
        if stream.ended:
            raise ConnectionResetError("connection lost")
        await stream.until_writable()

    async def wait_closed(self) -> None:
        if self._socket is not None:
            await self._lost.wait()

    def close(self) -> None:
        if self._socket is None or self._socket.is_closing():
            return
        if self._socket.get_write_buffer_size():  # a server that hangs would never let it drain
            self._socket.abort()
        else:
            self._socket.close()

    def at_eof(self) -> bool:
        return self._stream is None or (self._stream.ended and not self._stream.leftover)

    def __bool__(self) -> bool:
        return True  # else nats-py would put its own transport in this one's place

    def _living(self) -> asyncio.WriteTransport:
        """What to write to. Else uvloop's RuntimeError would come, which nats-py takes for the end of the loop."""
        stream, socket = self._open()
        if stream.ended:
            raise ConnectionResetError("connection lost")
        return socket

    def _open(self) -> tuple[MessageStream, asyncio.WriteTransport]:
        if self._stream is None or self._socket is None:
            raise ConnectionResetError("not connected")
        return self._stream, self._socket
