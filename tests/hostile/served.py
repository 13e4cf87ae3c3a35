"""The router's own HTTP server on a loopback port, in front of a fake engine."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from router.api_fakes import FakeEngine, app_of
from xpod.router.connections import Connections
from xpod.router.http_server import HttpServer, listen

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
LIMIT = 10.0


@asynccontextmanager
async def served(
    engine: FakeEngine,
    connections: Connections,
    tls: ssl.SSLContext | None = None,
    **settings: Any,
) -> AsyncIterator[int]:
    """The port."""
    listener = listen("127.0.0.1", 0)
    server = HttpServer(app_of(engine, **settings), connections, tls)
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = server.force_exit = True
        await task


def request(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def ask(port: int, what: bytes, until: bytes = b"") -> bytes:
    """What comes back, to its end or to `until`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(what)
    try:
        async with asyncio.timeout(LIMIT):
            return await (reader.readuntil(until) if until else reader.read())
    finally:
        writer.close()
