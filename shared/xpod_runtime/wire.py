"""What a transport must do for a bus: carry frames of bytes between subjects.

Knows: frames, subjects as text, the signals of a connection.
Does not know: messages, requests, chunks or codecs (see `wire_bus`), nor any particular transport.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

Pieces = Sequence[bytes | bytearray | memoryview]
"""The bytes of one frame, in pieces."""


class Frame(NamedTuple):
    """One delivery. `reply` is empty unless an answer is wanted; `no_responders` frames carry no data.

    `trace` is the header of that name (see `trace_context`); empty: it has none.

    `data` is lent: it is good until the `Deliver` that got it returns, so decode or copy it there.
    """

    subject: str
    reply: str
    data: bytes | memoryview
    no_responders: bool = False
    trace: str = ""


Deliver = Callable[[Frame], None]
"""Takes a frame on the event loop's thread, in order of arrival; must not block and must not raise."""

Stop = Callable[[], Awaitable[None]]
Signal = Callable[[], None]


class Wire(ABC):
    """A connection that publishes and delivers frames. Single event loop, not thread-safe."""

    max_payload: int
    """Largest frame in bytes."""

    def __init__(self) -> None:
        self.on_lost: Signal = lambda: None
        self.on_regained: Signal = lambda: None

    @property
    @abstractmethod
    def is_connected(self) -> bool: ...

    @abstractmethod
    def new_inbox(self) -> str:
        """A subject prefix that nobody else uses."""

    @abstractmethod
    async def send(self, subject: str, pieces: Pieces, reply: str = "", trace: str = "") -> None:
        """Publishes. With `reply` and no subscriber, a `no_responders` frame comes back to `reply`.

        `trace` goes along as a header, where there is one.

        `pieces` are lent until this returns: what is not sent by then has been copied.
        Raises Disconnected when there is no connection and no room to buffer, BusClosed after close.
        """

    @abstractmethod
    async def listen(self, subject: str, queue: str, deliver: Deliver) -> Stop:
        """Subscribes; `queue` shares the frames among members of that group. Returns how to stop."""

    @abstractmethod
    async def flush(self) -> None:
        """Returns once the server has seen everything sent and subscribed so far."""

    @abstractmethod
    async def close(self) -> None: ...
