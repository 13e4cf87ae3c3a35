"""The bus: typed messages between subjects.

Knows: the contract that every bus keeps (one conformance suite holds all of them to it).
Does not know: how messages travel; see `nats_bus` and `local_bus`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from xpod_proto import Message
from xpod_runtime.store import Bounds, Store

Handler = Callable[[Message], Awaitable[Message | None]]
"""Takes a message; what it returns answers a request, and is ignored for a publish."""


class Subscription(ABC):
    """Interest in a subject."""

    @abstractmethod
    async def unsubscribe(self) -> None:
        """Stops new deliveries. Handlers that have started run to their end. Calling it twice is fine."""


class Bus(ABC):
    """Publish, request and subscribe. Delivery is at most once; use from one event loop only."""

    @abstractmethod
    async def publish(self, subject: str, message: Message) -> None:
        """Sends without an answer. Small messages are buffered while disconnected, up to a limit.

        A message over the payload limit goes in chunks to *one* subscriber, and returns once that one has
        verified it: so it may raise NoResponders or TransferFailed, which a small publish never does.
        Raises MessageTooLarge, Disconnected, BusClosed.
        """

    @abstractmethod
    async def request(self, subject: str, message: Message, *, timeout: float) -> Message:
        """Sends and waits at most `timeout` seconds for the answer.

        Raises NoResponders at once when nobody subscribes, DeadlineExceeded, Disconnected as soon as the
        connection is lost (or when there is none), RemoteError when the peer answers with an error,
        BadMessage, MessageTooLarge, TransferFailed, FrameLost, BusClosed.
        """

    @abstractmethod
    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> Subscription:
        """Calls `handler` for each message. `*` stands for one token, a last `>` for one or more.

        Handlers start in the order of arrival and then run concurrently. An XpodError from a handler
        answers the request with its code, any other exception with the code 'internal'. A message that
        cannot be decoded is answered with 'bad_message' and never ends the subscription.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Returns once the server has everything sent so far; after it, subscriptions are live."""

    @abstractmethod
    async def close(self) -> None:
        """Cancels running handlers, fails waiting requests with BusClosed. Calling it twice is fine."""

    @property
    @abstractmethod
    def is_connected(self) -> bool: ...

    @property
    @abstractmethod
    def payload_limit(self) -> int:
        """Largest encoded message, in bytes, that is sent in one piece; larger ones go in chunks."""

    @abstractmethod
    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Adds a callback for each time the connection is back with all subscriptions live."""

    @abstractmethod
    def on_disconnect(self, callback: Callable[[], None]) -> None:
        """Adds a callback for each time the connection is lost."""

    async def on_departure(self, callback: Callable[[str], None]) -> None:  # noqa: B027
        """Adds a callback that is told the names of connections that their owners end, where a bus can know."""

    @abstractmethod
    def store(self, name: str, *, lifetime: float, bounds: Bounds | None = None) -> Store:
        """The pod's store of that name; keys that nobody writes again are forgotten after `lifetime` seconds."""

    @property
    def frames(self) -> str:
        """The token of the memory that this bus shares with others on its host; empty: none."""
        return ""

    def meet(self, subject: str, token: str) -> None:  # noqa: B027
        """Who listens at `subject` has this token: where it equals `frames`, large requests need not travel."""

    def forget(self, subject: str) -> None:  # noqa: B027
        """Whoever listens at `subject` is gone, or another."""
