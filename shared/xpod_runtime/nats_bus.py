"""The bus on NATS.

Knows: how to get a connection, or to say in one line why there is none.
Does not know: what is said (`xpod_proto`), or how requests and chunks work (`wire_bus`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from nats import errors as nats_errors
from nats.aio.client import Client

from xpod_runtime.errors import BusError
from xpod_runtime.frames import Frames
from xpod_runtime.nats_wire import PING_SECONDS, NatsWire, OnFatal
from xpod_runtime.receiving import Limits
from xpod_runtime.wire_bus import WireBus


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
    ) -> NatsBus:
        """Connects as `name` to the first of `urls` (a list, or text with commas) that answers.

        `wait=True` tries for ever, `wait=<seconds>` so long, `wait=False` for two seconds; then BusError names
        the URLs. `payload_limit` in bytes is where chunks begin (0: just under the server's maximum).
        `on_fatal` is called, after a log line, when the connection cannot go on: stop the process then.
        A server that hangs is left after three times `ping_seconds`. `frames` are its own to close.
        """
        servers = [url.strip() for url in urls.split(",")] if isinstance(urls, str) else list(urls)
        wire = NatsWire(name, on_fatal, ping_seconds=ping_seconds)
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
    def client(self) -> Client:
        """The nats-py client below, for JetStream and `$SYS` events."""
        return self._nats.client


async def _connect(wire: NatsWire, urls: list[str], seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await wire.connect(urls)
    except nats_errors.Error as error:  # an impossible URL: the rest is tried again
        raise BusError(f"cannot connect to {', '.join(urls)}: {error}") from None
    except TimeoutError:
        await wire.close()
        raise BusError(f"no NATS server answers at {', '.join(urls)} (waited {seconds:g} s)") from None
