"""A line that remembers when calls left and answers came.

Knows: the clock, and what passed since `begin`.
Does not know: what it is for. It notes a time for each call and answer, and costs no more than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from xpod_proto import Framed, Message
from xpod_proto.tensor import Buffer
from xpod_runtime.frames import Frames
from xpod_runtime.line import Answer, Arrival
from xpod_runtime.nats_line import NatsLine
from xpod_runtime.wire import Pieces


class WatchedFrames(Frames):
    """`packed`: when the latest message was ready to be sent. `opened`: when one was read first after it was 0."""

    packed = 0.0
    opened = 0.0

    def put(self, subject: str, pieces: Pieces) -> Framed | None:
        framed = super().put(subject, pieces)
        self.packed = perf_counter()
        return framed

    def decode(self, data: Buffer) -> Message:
        self.opened = self.opened or perf_counter()
        return super().decode(data)


class WatchedLine(NatsLine):
    """What passed since `begin`: `calls` by ticket, with when they were ready to be sent, and the `last` answer."""

    def __init__(self, urls: Sequence[str], name: str, frames: WatchedFrames) -> None:
        super().__init__(urls, name, frames=frames)
        self._watched = frames
        self.calls: dict[int, tuple[float, Message]] = {}
        self.last: Answer | None = None
        self.came = 0.0
        """When reading began of what came with the last answer: with those that it came along with."""

    def begin(self) -> None:
        self.calls, self.last, self.came = {}, None, 0.0

    def post(self, subject: str, message: Message) -> int:
        ticket = super().post(subject, message)
        self.calls[ticket] = (self._watched.packed, message)
        return ticket

    def take(self, timeout: float | None) -> Arrival | None:
        self._watched.opened = 0.0
        arrival = super().take(timeout)
        self.came = self._watched.opened or self.came
        if isinstance(arrival, Answer) and arrival.ticket in self.calls:
            self.last = arrival
        return arrival
