"""Frames over one NATS connection.

Knows: nats-py, its callbacks and its limits; which connection events are fatal.
Does not know: messages, requests or chunks.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Any

import structlog
from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from xpod_runtime.credentials import NOBODY, Credentials, refuse_plain
from xpod_runtime.errors import (
    BusClosed,
    BusError,
    Disconnected,
    MessageTooLarge,
    SlowConsumer,
)
from xpod_runtime.nats_headers import head_of
from xpod_runtime.nats_transport import DirectTransport
from xpod_runtime.trace_context import HEADER
from xpod_runtime.wire import Deliver, Frame, Pieces, Stop, Wire

RECONNECT_WAIT = 0.05
"""Seconds between attempts to reconnect."""
PING_SECONDS = 0.2
"""Seconds between pings; a server that misses two is left."""
CONNECT_SECONDS = 0.7
"""A server that hangs takes connections and says nothing."""
PENDING_BYTES = 64 * 1024 * 1024
"""What is buffered on the way out, also while disconnected."""
INBOUND_FRAMES = 1_000_000
INBOUND_BYTES = 1024 * 1024 * 1024
"""Frames are handed over at once, so nothing gathers here unless something is badly wrong: then it is fatal."""
FLUSH_SECONDS = 10.0
CLOSE_SECONDS = 1.0
PING_LIMIT = 60
NOT_ALLOWED_TO_HEAR = "permissions violation for subscription"
NOT_LET_IN = "authorization violation"
ERROR_LOG_SECONDS = 5.0
"""The same connection error is logged at most this often."""

log = structlog.get_logger(__name__)
OnFatal = Callable[[BusError], None]


class _Client(Client):
    """Stays with the servers that it was told, where these are several, and raises nothing where a connection ends.

    A cluster tells of its servers' addresses. They would be tried as servers of their own: that of the one that hangs,
    too, and in vain, for as long as a connection may take.
    """

    told_all = False
    trust: ssl.SSLContext | None = None

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection:
            refuse_plain(info, self.trust)
        known = {key: value for key, value in info.items() if key != "connect_urls" or not self.told_all}
        await super()._process_info(known, initial_connection)

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        """Who has something to say just when the connection ends says it all the same: it goes over the next one."""
        try:
            return await super()._flush_pending(force_flush)
        except OSError:
            flushed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            flushed.set_result(None)
            return flushed


class NatsWire(Wire):
    """One connection. `on_fatal` is told once when messages were lost or the server closed it for good."""

    def __init__(
        self,
        name: str,
        on_fatal: OnFatal | None = None,
        *,
        ping_seconds: float = PING_SECONDS,
        credentials: Credentials = NOBODY,
    ) -> None:
        super().__init__()
        self._client = _Client()
        self._transport = DirectTransport()
        self._client._transport = self._transport
        self._name = name
        self._on_fatal = on_fatal
        self._ping_seconds = ping_seconds
        self._credentials = credentials
        self._refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._met = False
        self._closing = False
        self._last_error = ("", 0.0)
        self.server = ""
        """The URL of the server that it is at, or was last."""

    async def connect(self, urls: list[str]) -> None:
        """Tries the servers in order, for ever, until one answers. One that is alone may tell of others.

        Raises BusError where one does not let us in, or is not who we trust.
        """
        self._client.told_all = len(urls) > 1
        self._client.trust = self._credentials.tls()
        connecting = asyncio.ensure_future(self._connect(urls))
        try:
            await asyncio.wait({connecting, self._refused}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not connecting.done():
                connecting.cancel()
                await asyncio.gather(connecting, return_exceptions=True)
        if self._refused.done():
            await self._give_up()
            self._refused.result()
        try:
            await connecting
        except BusError:
            await self._give_up()
            raise
        self._met = True
        self.max_payload = self._client.max_payload
        self._note_server()

    async def _give_up(self) -> None:
        self._closing = True
        self._transport.close()
        await self._transport.wait_closed()

    async def _connect(self, urls: list[str]) -> None:
        await self._client.connect(
            urls,
            name=self._name,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            closed_cb=self._on_closed,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_WAIT,  # type: ignore[arg-type]
            ping_interval=self._ping_seconds,  # type: ignore[arg-type]
            max_outstanding_pings=2,
            connect_timeout=CONNECT_SECONDS,  # type: ignore[arg-type]
            dont_randomize=True,
            pending_size=PENDING_BYTES,
            tls=self._client.trust,
            nkeys_seed_str=self._credentials.seed or None,
            inbox_prefix=self._credentials.inbox,
        )

    @property
    def is_connected(self) -> bool:
        return self._client.is_connected

    @property
    def client(self) -> Client:
        """The nats-py client, for JetStream and server events."""
        return self._client

    def new_inbox(self) -> str:
        return self._client.new_inbox()

    async def send(self, subject: str, pieces: Pieces, reply: str = "", trace: str = "") -> None:
        if not subject.isprintable() or " " in subject or not subject:
            raise ValueError(f"not a subject: {subject!r}")
        size = sum(map(len, pieces))
        if size > self.max_payload:
            raise MessageTooLarge(f"{size} bytes to {subject}, the server takes {self.max_payload}")
        # What nats-py has buffered must go first; and it learns a moment later than the transport that all is over.
        if self._client.is_connected and self._transport.is_open and not self._client.pending_data_size:
            if not self._transport.publish(head_of(subject, reply, size, trace), pieces, size):
                await self._transport.until_writable()
        else:
            await self._send_later(subject, b"".join(pieces), reply, trace)

    async def _send_later(self, subject: str, data: bytes, reply: str, trace: str) -> None:
        try:
            await self._client.publish(subject, data, reply, headers={HEADER: trace} if trace else None)
        except nats_errors.OutboundBufferLimitError:
            raise Disconnected(f"no connection, and the buffer of {PENDING_BYTES} bytes is full") from None
        except (nats_errors.ConnectionClosedError, nats_errors.ConnectionDrainingError):
            raise BusClosed("the connection is closed") from None

    async def listen(self, subject: str, queue: str, deliver: Deliver) -> Stop:
        async def on_message(msg: Msg) -> None:
            deliver(Frame(msg.subject, msg.reply, msg.data, _is_no_responders(msg), _trace_of(msg)))

        try:
            subscription = await self._client.subscribe(
                subject,
                queue,
                cb=on_message,
                pending_msgs_limit=INBOUND_FRAMES,
                pending_bytes_limit=INBOUND_BYTES,
            )
        except nats_errors.ConnectionClosedError:
            raise BusClosed("the connection is closed") from None
        self._transport.takers[subscription._id] = deliver

        async def stop() -> None:
            self._transport.takers.pop(subscription._id, None)
            if not self._client.is_closed:
                await subscription.unsubscribe()

        return stop

    async def flush(self) -> None:
        if not self._client.is_connected:
            raise Disconnected("no connection to flush")
        if not await self._ping(FLUSH_SECONDS):
            raise Disconnected(f"the server did not answer a ping in {FLUSH_SECONDS:g} s")

    async def _ping(self, seconds: float) -> bool:
        """Whether the server answered in time; it has then seen all that was sent before."""
        # nats-py's reader dies on a pong whose waiter was cancelled, so the wait never cancels the ping.
        ping = asyncio.get_running_loop().create_task(self._client.flush(timeout=PING_LIMIT))
        ping.add_done_callback(_read_result)
        lost = asyncio.get_running_loop().create_task(self._transport.wait_closed())
        try:
            done, _ = await asyncio.wait({ping, lost}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost.cancel()
        return ping in done and ping.exception() is None

    async def close(self) -> None:
        """Sends what is buffered, if the server takes it within a second, and ends the connection."""
        if self._closing:
            return
        self._closing = True
        if self._client.is_connected:
            await self._ping(CLOSE_SECONDS)
        try:
            await self._client.close()
        except OSError as error:
            log.warning("connection error", connection=self._name, error=str(error))

    async def _on_disconnected(self) -> None:
        if self._closing:
            return
        log.warning("disconnected", connection=self._name)
        self.on_lost()

    async def _on_reconnected(self) -> None:
        self._note_server()
        log.info("reconnected", connection=self._name, server=self.server)
        self.on_regained()

    def _note_server(self) -> None:
        url = self._client.connected_url
        self.server = f"{url.scheme}://{url.hostname}:{url.port}" if url else self.server

    async def _on_closed(self) -> None:
        if not self._closing:
            self._closing = True
            self._fatal(BusClosed(f"the server closed the connection: {self._client.last_error}"))

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, nats_errors.SlowConsumerError):
            self._fatal(SlowConsumer(f"messages on {error.subject} were dropped"))
            return
        if NOT_ALLOWED_TO_HEAR in str(error).lower():
            self._fatal(BusError(f"these credentials are not for this kind of member: {error}"))
            return
        if _is_refusal(error) and not (self._met or self._refused.done()):
            self._refused.set_exception(BusError(f"the NATS server and we do not trust each other: {error}"))
            return
        text, when = self._last_error
        now = time.monotonic()
        if str(error) != text or now - when >= ERROR_LOG_SECONDS:
            self._last_error = (str(error), now)
            log.warning("connection error", connection=self._name, error=str(error) or type(error).__name__)

    def _fatal(self, error: BusError) -> None:
        log.error("connection failed", connection=self._name, code=error.code, error=str(error))
        if self._on_fatal is not None:
            self._on_fatal(error)


def _is_no_responders(msg: Msg) -> bool:
    headers: dict[str, Any] | None = msg.headers
    return headers is not None and headers.get("Status") == "503" and not msg.data


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, ssl.SSLCertVerificationError) or NOT_LET_IN in str(error).lower()


def _trace_of(msg: Msg) -> str:
    return msg.headers.get(HEADER, "") if msg.headers else ""


def _read_result(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
