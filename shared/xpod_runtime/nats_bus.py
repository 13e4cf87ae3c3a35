"""The bus on NATS.

Knows: how to get a connection, or to say in one line why there is none.
Does not know: what is said (`xpod_proto`), or how requests and chunks work (`wire_bus`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence

from nats import errors as nats_errors
from nats.aio.client import Client

from xpod_runtime.broker_access import DISCONNECTS
from xpod_runtime.credentials import NOBODY, Credentials
from xpod_runtime.errors import BusError
from xpod_runtime.frames import Frames
from xpod_runtime.nats_store import NatsStore
from xpod_runtime.nats_wire import PING_SECONDS, NatsWire, OnFatal
from xpod_runtime.receiving import Limits
from xpod_runtime.store import Bounds
from xpod_runtime.wire import Frame
from xpod_runtime.wire_bus import WireBus

OWN_END = frozenset({"Client Closed", "Read Error", "Write Error"})
"""nats-server's reasons that lie with the client; others are the server's own doing."""


class NatsBus(WireBus):
    """One connection to a NATS cluster; make it with `connect`."""

    _nats: NatsWire

    @classmethod
    async def connect(
        cls,
        urls: str | Sequence[str],
        name: str,
        *,
        wait: bool | float = True,
        payload_limit: int = 0,
        limits: Limits | None = None,
        on_fatal: OnFatal | None = None,
        ping_seconds: float = PING_SECONDS,
        frames: Frames | None = None,
        credentials: Credentials = NOBODY,
    ) -> NatsBus:
        """Connects as `name` to the first of `urls` (a list, or text with commas) that answers.

        `wait=True` tries for ever, `wait=<seconds>` so long, `wait=False` for two seconds; then BusError names
        the URLs. A server that refuses the `credentials`, or whom they do not trust, is a BusError at once.
        `payload_limit` in bytes is where chunks begin (0: just under the server's maximum).
        `on_fatal` is called, after a log line, when the connection cannot go on: stop the process then.
        A server that hangs is left after three times `ping_seconds`. `frames` are its own to close.
        """
        servers = [url.strip() for url in urls.split(",")] if isinstance(urls, str) else list(urls)
        wire = NatsWire(name, on_fatal, ping_seconds=ping_seconds, credentials=credentials)
        try:
            await _connect(wire, servers, None if wait is True else float(wait or 2.0))
        except BaseException:
            if frames is not None:
                frames.close()
            raise
        bus = cls(wire, payload_limit=payload_limit, limits=limits, frames=frames)
        bus._nats = wire
        await bus.start()
        return bus

    @property
    def server(self) -> str:
        """The URL, without credentials, of the server that it is at, or was last."""
        return self._nats.server

    async def on_departure(self, callback: Callable[[str], None]) -> None:
        """From the server's own events, which come milliseconds after a process was killed.

        They tell nothing where a server's account does not import them (see `broker_config`).
        """

        def deliver(frame: Frame) -> None:
            name = departed(frame.data)
            if name:
                callback(name)

        await self._nats.listen(DISCONNECTS, "", deliver)

    def store(self, name: str, *, lifetime: float, bounds: Bounds | None = None) -> NatsStore:
        return NatsStore(self._nats.client, name, lifetime, bounds)

    @property
    def client(self) -> Client:
        """The nats-py client below, for JetStream and `$SYS` events."""
        return self._nats.client


def departed(event: bytes | memoryview) -> str:
    """The name of the connection that ended by itself, in a DISCONNECT event; empty for any other reason."""
    try:
        told = json.loads(bytes(event))
        return str(told["client"]["name"]) if told["reason"] in OWN_END else ""
    except (ValueError, KeyError, TypeError):
        return ""


async def _connect(wire: NatsWire, urls: list[str], seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await wire.connect(urls)
    except nats_errors.Error as error:  # an impossible URL: the rest is tried again
        raise BusError(f"cannot connect to {', '.join(urls)}: {error}") from None
    except TimeoutError:
        await wire.close()
        raise BusError(f"no NATS server answers at {', '.join(urls)} (waited {seconds:g} s)") from None
