"""Which NATS nodes there are: each known address is asked for its INFO line now and then.

Knows NATS' greeting and nothing else of its protocol.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from xpod_runtime.errors import StoreError

EVERY = 2.0
PATIENCE = 1.0


class Brokers:
    """The nodes behind `urls()`, as members for `xpod status`; `leader()` names the one that leads the journal."""

    def __init__(
        self,
        urls: Callable[[], Iterable[str]],
        leader: Callable[[], Awaitable[str]],
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._urls = urls
        self._trust = trust or ssl.create_default_context()
        self._ask_leader = leader
        self._leader = ""
        self._known: dict[str, dict[str, Any]] = {}

    async def watch(self) -> None:
        """Ask all of them, over and over."""
        while True:
            await self.ask()
            await asyncio.sleep(EVERY)

    async def ask(self) -> None:
        """Ask all of them once."""
        addresses = sorted({urlsplit(url).netloc.rpartition("@")[2] for url in self._urls()})
        await asyncio.gather(self._look_for_leader(), *(self._look(address) for address in addresses))

    def members(self) -> list[dict[str, Any]]:
        """One entry a node, by name; `since` is a Unix time."""
        nodes = [
            node | {"detail": node["detail"] | {"leads": node["id"] == self._leader}}
            for node in self._known.values()
        ]
        return sorted(nodes, key=lambda node: str(node["id"]))

    async def _look_for_leader(self) -> None:
        try:
            self._leader = await self._ask_leader()
        except StoreError:
            self._leader = ""

    async def _look(self, address: str) -> None:
        before = self._known.get(address)
        try:
            info = await _greeting(address, self._trust)
        except (OSError, ValueError, TimeoutError):
            state, name, detail = "down", before["id"] if before else address, {"address": address}
        else:
            state, name = "up", str(info.get("server_name") or address)
            detail = {"address": address, "version": str(info.get("version", ""))}
        since = before["since"] if before and before["state"] == state else round(time.time(), 3)
        host = address.rpartition(":")[0]
        self._known[address] = {
            "id": name,
            "kind": "nats",
            "pid": None,
            "host": host,
            "state": state,
            "since": since,
            "detail": detail,
        }


async def _greeting(address: str, trust: ssl.SSLContext) -> dict[str, Any]:
    """The INFO object of the server at `host:port`. Raises OSError, TimeoutError or ValueError.

    One that speaks TLS gets its handshake, or it would log that somebody hung up.
    """
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        try:
            word, _, body = (await reader.readline()).partition(b" ")
            info = json.loads(body)
            if isinstance(info, dict) and info.get("tls_required"):
                await writer.start_tls(trust, server_hostname=host.strip("[]"))
        finally:
            writer.close()
    if word != b"INFO" or not isinstance(info, dict):
        raise ValueError(f"{address} does not speak NATS")
    return info
