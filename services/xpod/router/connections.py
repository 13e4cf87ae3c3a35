"""HTTP connections: so many at most, and none that is held for nothing.

Knows: uvicorn's protocol, and when a client takes too long to ask or to read. How long a body may take is the API's
own business (see `api.gate`). Does not know: what is asked.
"""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 10.0
READ_SECONDS = 60.0
MOST_FILES = 1 << 16
RESERVED_FILES = 256
"""Files and sockets that are no connections of clients."""
FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@dataclass(slots=True)
class Connections:
    """All of a router. `request_seconds` is how long the head of a request may take, from the connection or from its
    first byte on; `read_seconds` how long a client may take nothing of what it is sent."""

    most: int
    request_seconds: float = REQUEST_SECONDS
    read_seconds: float = READ_SECONDS
    idle: dict[Guarded, None] = field(default_factory=dict)
    """Those without a request, the longest idle first."""
    open: int = 0
    ended: Counter | None = None

    def registered(self, registry: CollectorRegistry) -> Connections:
        """Counted on /metrics."""
        Gauge("xpod_http_connections", "HTTP connections", registry=registry).set_function(lambda: self.open)
        self.ended = Counter(
            "xpod_http_connections_ended",
            "Connections that the router ended: full, slow to ask, slow to read",
            ["reason"],
            registry=registry,
        )
        return self

    def room(self) -> bool:
        """Is there room for one more? The one that has been idle longest makes way."""
        if self.open <= self.most:
            return True
        oldest = next(iter(self.idle), None)
        if oldest is not None:
            oldest.end("full")
        return oldest is not None

    def count(self, reason: str) -> None:
        """One ended for that reason."""
        if self.ended is not None:
            self.ended.labels(reason).inc()


class Guarded(H11Protocol):
    """One connection."""

    def __init__(self, all_of_them: Connections, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._all = all_of_them
        self._asking: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._unread = 0

    @property
    def idle(self) -> bool:
        """Is no request under way?"""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._all.open += 1
        if not self._all.room():
            self._all.count("full")
            transport.write(FULL)
            transport.close()
            return
        self._rest()
        self._await_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.idle:
            self._await_request()
        else:
            self._all.idle.pop(self, None)
            self._stop_asking()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.idle and not self.transport.is_closing():
            self._rest()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.transport.get_write_buffer_size()
        self._reading = self._reading or self.loop.call_later(self._all.read_seconds, self._look_at_reader)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.open -= 1
        self._all.idle.pop(self, None)
        self._stop_asking()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self._stop_reading()

    def end(self, reason: str) -> None:
        """Without more words: nobody may be there to hear them."""
        self._all.idle.pop(self, None)
        self._all.count(reason)
        self.transport.abort()

    def _rest(self) -> None:
        self._all.idle.pop(self, None)
        self._all.idle[self] = None

    def _await_request(self) -> None:
        self._asking = self._asking or self.loop.call_later(
            self._all.request_seconds, self.end, "slow to ask"
        )

    def _stop_asking(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    def _look_at_reader(self) -> None:
        self._reading = None
        unread = self.transport.get_write_buffer_size()
        if unread >= self._unread:
            self.end("slow to read")
        else:
            self._unread = unread
            self._reading = self.loop.call_later(self._all.read_seconds, self._look_at_reader)

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None


def raise_file_limit(most: int) -> int:
    """As many files as the system allows, up to a bound; returns how many connections they are enough for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    room = most if soft == resource.RLIM_INFINITY else soft - RESERVED_FILES
    return max(1, min(most, room))
