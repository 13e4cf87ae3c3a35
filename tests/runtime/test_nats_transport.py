"""What is lent to the transport is sent as it was, however much of it the socket takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlparse

import pytest
import uvloop

from xpod_runtime.nats_headers import head_of
from xpod_runtime.nats_transport import MOST_PIECES, DirectTransport
from xpod_runtime.testing import LIMIT


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_pieces_may_change_once_publish_has_returned(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(publish_and_read())


async def publish_and_read() -> None:
    served: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await served.put((reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = DirectTransport()
    await transport.connect(urlparse(f"nats://127.0.0.1:{port}"), 0, LIMIT)
    expected, writable = b"", True
    for number in range(40):
        data = bytearray([number]) * 300_000
        writable = transport.publish(
            head_of("a", "b", len(data) + 4), [b"head", memoryview(data)], len(data) + 4
        )
        expected += b"PUB a b 300004\r\nhead" + data + b"\r\n"
        data[:] = bytes(len(data))
    assert not writable
    many = [b"x"] * (2 * MOST_PIECES)
    transport.publish(head_of("a", "", len(many)), many, len(many))
    expected += b"PUB a  1024\r\n" + b"x" * len(many) + b"\r\n"
    reader, writer = await served.get()
    async with asyncio.timeout(LIMIT):
        assert await reader.readexactly(len(expected)) == expected
        await transport.until_writable()
    writer.close()
    await writer.wait_closed()
    transport.close()
    async with asyncio.timeout(LIMIT):
        await transport.wait_closed()
    server.close()


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_that_ended_takes_nothing_and_says_so(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(write_after_the_end())


async def write_after_the_end() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    transport = DirectTransport()
    port = server.sockets[0].getsockname()[1]
    await transport.connect(urlparse(f"nats://127.0.0.1:{port}"), 0, LIMIT)
    async with asyncio.timeout(LIMIT):
        await transport.wait_closed()
    with pytest.raises(ConnectionResetError):
        transport.write(b"PING\r\n")
    with pytest.raises(ConnectionResetError):
        transport.writelines([b"PING\r\n"])
    server.close()
