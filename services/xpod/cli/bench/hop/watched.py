"""A line that remembers when calls left and answers came.

Knows: the clock, and what passed since `begin`.
Does not know: what it is for. It notes a time for each call and answer, and costs no more than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from xpod_proto import Message
from xpod_proto.tensor import Buffer
from xpod_runtime.frames import Frames
from xpod_runtime.line import Answer, Arrival
from xpod_runtime.nats_line import NatsLine


class WatchedFrames(Frames):
    """`opened`: when the first message was read since it was set to 0."""

    opened = 0.0

    def decode(self, data: Buffer) -> Message:
        self.opened = self.opened or perf_counter()
        return super().decode(data)


class WatchedLine(NatsLine):
    """What passed since `begin`: `calls` by ticket, when each was `ready` to be sent, and the `last` answer."""

    def __init__(self, urls: Sequence[str], name: str, frames: WatchedFrames) -> None:
        super().__init__(urls, name, frames=frames)
        self._watched = frames
        self.begin()

    def begin(self) -> None:
        self.calls: dict[int, Message] = {}
        self.ready: dict[int, float] = {}
        self.last: Answer | None = None
        self.came = 0.0
        """When reading began of what came with the last answer: with those that it came along with."""

    def post(self, subject: str, message: Message, trace: str = "") -> int:
        ticket = super().post(subject, message, trace)
        self.calls[ticket] = message
        return ticket

    def flush(self) -> None:
        if len(self.ready) < len(self.calls):
            self.ready = dict.fromkeys(self.calls, perf_counter()) | self.ready
        super().flush()

    def take(self, timeout: float | None) -> Arrival | None:
        self._watched.opened = 0.0
        arrival = super().take(timeout)
        self.came = self._watched.opened or self.came
        if isinstance(arrival, Answer) and arrival.ticket in self.calls:
            self.last = arrival
        return arrival
