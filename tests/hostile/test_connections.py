"""Clients that hold connections for nothing: slow to ask, slow to read, many. Others are served all the same."""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry

from hostile.served import HEAD, LIMIT, ask, request, served
from router.api_fakes import EOS, FakeEngine, says
from xpod.router.connections import Connections, raise_file_limit

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
SLOW_HEADS = {
    "nothing": b"",
    "half a line": b"POST /v1/comp",
    "headers without end": HEAD + b"X-A: b\r\n",
}


async def cut_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, more: bytes) -> None:
    """Returns when the connection has ended, although there is more of it now and then."""
    with suppress(ConnectionError):
        async with asyncio.timeout(LIMIT):
            while not reader.at_eof():
                writer.write(more)
                await writer.drain()
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1 << 16), 0.02)


@pytest.mark.parametrize("name", SLOW_HEADS)
async def test_a_head_that_never_ends_is_cut_off(name: str) -> None:
    registry = CollectorRegistry()
    limits = Connections(10, request_seconds=0.2).registered(registry)
    async with served(FakeEngine(), limits) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(SLOW_HEADS[name])
        await cut_off(reader, writer, b"x" if name != "nothing" else b"")
        ended = registry.get_sample_value("xpod_http_connections_ended_total", {"reason": "slow to ask"})
        assert ended == 1
        writer.close()


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 1000\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"]
)
async def test_a_body_that_never_ends_is_refused(framing: bytes) -> None:
    async with served(FakeEngine(), Connections(10), body_seconds=0.2) as port:
        answer = await ask(port, HEAD + framing)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"request_timeout" in answer


async def test_who_goes_on_sending_to_a_refusal_is_cut_off() -> None:
    """The refusal comes without the body; what comes of it later does not keep the connection."""
    async with served(FakeEngine(), Connections(10, request_seconds=0.2), api_key="k") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"Content-Length: 1000000\r\n\r\n")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401 ")
        await cut_off(reader, writer, b"x")
        writer.close()


async def test_who_never_reads_loses_the_stream() -> None:
    """Its session is let go, and until then what waits for it is a few buffers, whatever the engine says."""
    engine = FakeEngine(*[97] * 200_000, asyncio.Event(), EOS)
    engine.max_model_len = 1_000_000
    said: list[int] = []

    class Noting(Connections):
        def count(self, reason: str) -> None:
            said.append(engine.sessions[0].given)

    async with served(engine, Noting(10, read_seconds=0.3)) as port:
        body = b'{"prompt":"x","stream":true,"max_tokens":900000}'
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, request(body))
        await asyncio.wait_for(engine.began.wait(), LIMIT)
        await asyncio.wait_for(engine.sessions[0].left.wait(), LIMIT)
        client.close()
    assert said[0] < 100_000  # the writer waited for the reader


async def test_who_reads_gets_it_all() -> None:
    engine = FakeEngine(*[97] * 20_000, EOS)
    engine.max_model_len = 1_000_000
    async with served(engine, Connections(10, read_seconds=0.3)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
        writer.write(request(b'{"prompt":"x","stream":true,"max_tokens":900000}'))
        read, tail = 0, b""
        async with asyncio.timeout(60):
            while b"[DONE]" not in tail:
                got = await reader.read(1 << 16)
                assert got, "cut off"
                read += len(got)
                tail = (tail + got)[-40:]
        writer.close()
    assert read > 2_000_000


async def test_the_longest_idle_makes_way() -> None:
    registry = CollectorRegistry()
    engine = FakeEngine(97, asyncio.Event(), EOS)
    limits = Connections(3).registered(registry)
    async with served(engine, limits) as port:
        busy = await asyncio.open_connection("127.0.0.1", port)
        busy[1].write(request(b'{"prompt":"x","stream":true}'))
        await busy[0].readuntil(b'"text":"a"')
        first, second = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        first[1].write(HEALTH.replace(b"close", b"keep-alive"))
        await first[0].readuntil(b"}")  # so the second is idle for longer
        assert b"200 OK" in await ask(port, HEALTH)
        assert await asyncio.wait_for(second[0].read(), LIMIT) == b""
        first[1].write(HEALTH)
        assert b"200 OK" in await first[0].readuntil(b"\r\n")
        for _, writer in (busy, first, second):
            writer.close()
    assert registry.get_sample_value("xpod_http_connections_ended_total", {"reason": "full"}) == 1


async def test_where_all_are_busy_the_next_is_told_so() -> None:
    engine = FakeEngine(97, asyncio.Event(), EOS)
    async with served(engine, Connections(1)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(b'{"prompt":"x","stream":true}'))
        await reader.readuntil(b'"text":"a"')
        assert (await ask(port, HEALTH)).startswith(b"HTTP/1.1 503 ")
        writer.close()
        await engine.sessions[0].left.wait()
        async with asyncio.timeout(LIMIT):
            while b"200 OK" not in await ask(port, HEALTH):
                pass


async def test_ten_thousand_idle_connections() -> None:
    """Three fifths of them make way, the API answers, and none is left open."""
    files = raise_file_limit(1 << 20)
    many = min(10_000, files * 2 // 3)
    limits = Connections(many * 2 // 5)
    loop = asyncio.get_running_loop()
    async with served(FakeEngine(*says("ok")), limits) as port:
        clients: list[socket.socket] = []
        try:
            for _ in range(many):
                client = socket.socket()
                client.setblocking(False)
                clients.append(client)
                await loop.sock_connect(client, ("127.0.0.1", port))
            answer = await ask(port, request(b'{"prompt":"x"}'), until=b"}}")
            assert b"200 OK" in answer
            assert limits.open <= limits.most + 1
            assert len(limits.idle) <= limits.most
        finally:
            for client in clients:
                client.close()
        async with asyncio.timeout(LIMIT):
            while limits.open > 1:
                await ask(port, HEALTH)


def test_no_more_connections_than_files() -> None:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert raise_file_limit(8) == 8
    assert raise_file_limit(1 << 30) <= max(soft, 1 << 16)
