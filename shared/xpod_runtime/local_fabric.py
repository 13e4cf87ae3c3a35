"""Frames in memory, with faults on a schedule.

Knows: subjects, queue groups, faults. Frames are bytes, so messages are checked as on a network.
Does not know: sockets; what is held stays held until the test releases it.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from dataclasses import dataclass, field

from xpod_runtime.errors import BusClosed, Disconnected
from xpod_runtime.fault_plan import Delivery, Fault, FaultPlan, subject_matches
from xpod_runtime.local_store import Shelf
from xpod_runtime.wire import Deliver, Frame, Pieces, Stop, Wire

PENDING_BYTES = 64 * 1024 * 1024
"""What a member keeps for later while it is disconnected, as NatsBus does."""


@dataclass(eq=False, slots=True)
class Interest:
    """One member's subscription."""

    wire: LocalWire
    pattern: str
    queue: str
    deliver: Deliver


@dataclass(eq=False, slots=True)
class Held:
    """A delivery that waits for `release`."""

    interest: Interest = field(repr=False)
    frame: Frame


class LocalFabric:
    """What a NATS server is to NatsBus. One event loop; `plan` may be changed at any time.

    `delay` is how long a delayed delivery takes, in seconds.
    """

    def __init__(
        self,
        plan: FaultPlan | None = None,
        *,
        seed: int = 0,
        max_payload: int = 1024 * 1024,
        delay: float = 0.0,
    ) -> None:
        self.plan = plan or FaultPlan(seed=seed)
        self.max_payload = max_payload
        self.delay = delay
        self.held: list[Held] = []
        self.shelves: defaultdict[str, Shelf] = defaultdict(Shelf)
        self._random = random.Random(seed)
        self._interests: list[Interest] = []
        self._overtaken: dict[str, list[Held]] = {}
        self._inboxes = 0
        self._held_changed = asyncio.Event()

    async def holding(self, count: int = 1) -> None:
        """Returns once at least `count` frames are held."""
        while len(self.held) < count:
            self._held_changed.clear()
            await self._held_changed.wait()

    def release(self, count: int | None = None, *, order: str = "fifo") -> int:
        """Delivers the first `count` held frames (all by default), 'fifo', 'lifo' or 'shuffled'; returns how many."""
        batch = self.held[:count]
        del self.held[:count]
        if order == "lifo":
            batch.reverse()
        elif order == "shuffled":
            self._random.shuffle(batch)
        for held in batch:
            self._hand_over(held.interest, held.frame)
        return len(batch)

    def new_inbox(self, name: str) -> str:
        self._inboxes += 1
        return f"_INBOX.{self._inboxes:x}-{name}".replace(" ", "_")

    def add(self, interest: Interest) -> None:
        self._interests.append(interest)

    def remove(self, interest: Interest) -> None:
        if interest in self._interests:
            self._interests.remove(interest)

    def route(self, source: LocalWire, frame: Frame) -> None:
        """Delivers to every plain subscriber and to one member of each queue group."""
        receivers = self._receivers(frame.subject)
        if not receivers and frame.reply:
            source.refuse(frame)
        for interest in receivers:
            size = len(frame.data)
            self._apply(
                self.plan.decide(Delivery(frame.subject, source.name, interest.wire.name, size)),
                interest,
                frame,
            )

    def _receivers(self, subject: str) -> list[Interest]:
        found = [
            each
            for each in self._interests
            if each.wire.is_connected and subject_matches(each.pattern, subject)
        ]
        plain = [each for each in found if not each.queue]
        groups: dict[str, list[Interest]] = {}
        for each in found:
            if each.queue:
                groups.setdefault(each.queue, []).append(each)
        return plain + [self._random.choice(members) for members in groups.values()]

    def _apply(self, fault: Fault | None, interest: Interest, frame: Frame) -> None:
        match fault:
            case Fault.DROP:
                return
            case Fault.HOLD:
                self.held.append(Held(interest, frame))
                self._held_changed.set()
                return
            case Fault.REORDER:
                self._overtaken.setdefault(interest.wire.name, []).append(Held(interest, frame))
                return
            case Fault.DELAY:
                asyncio.get_running_loop().call_later(self.delay, self._arrive, interest, frame)
                return
            case Fault.DUPLICATE:
                self._hand_over(interest, frame)
            case Fault.CORRUPT:
                frame = frame._replace(data=self._corrupt(bytes(frame.data)))
        self._hand_over(interest, frame)
        for late in self._overtaken.pop(interest.wire.name, []):
            self._hand_over(late.interest, late.frame)

    def _corrupt(self, data: bytes) -> bytes:
        if not data:
            return data
        at = len(data) // 2  # the middle of a large frame is payload, not envelope
        return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]

    def _hand_over(self, interest: Interest, frame: Frame) -> None:
        # A turn of the loop later, as with a socket: a sender never runs its receiver.
        asyncio.get_running_loop().call_soon(self._arrive, interest, frame)

    def _arrive(self, interest: Interest, frame: Frame) -> None:
        if interest in self._interests and interest.wire.is_connected:
            interest.deliver(frame)


class LocalWire(Wire):
    """One member's connection to a fabric."""

    def __init__(self, fabric: LocalFabric, name: str) -> None:
        super().__init__()
        self.name = name
        self.max_payload = fabric.max_payload
        self._fabric = fabric
        self._mine: list[Interest] = []
        self._unsent: list[Frame] = []
        self._connected = True
        self._closed = False

    @property
    def is_connected(self) -> bool:
        return self._connected and not self._closed

    def new_inbox(self) -> str:
        return self._fabric.new_inbox(self.name)

    def refuse(self, frame: Frame) -> None:
        """No-responders: comes back to the reply subject, which is one of this wire's own."""
        answer = Frame(frame.reply, "", b"", no_responders=True)
        for interest in self._mine:
            if subject_matches(interest.pattern, frame.reply):
                asyncio.get_running_loop().call_soon(interest.deliver, answer)

    async def send(self, subject: str, pieces: Pieces, reply: str = "", trace: str = "") -> None:
        if self._closed:
            raise BusClosed("the connection is closed")
        data = b"".join(pieces)
        frame = Frame(subject, reply, data, trace=trace)
        if self._connected:
            self._fabric.route(self, frame)
        elif sum(len(unsent.data) for unsent in self._unsent) + len(data) > PENDING_BYTES:
            raise Disconnected(f"no connection, and the buffer of {PENDING_BYTES} bytes is full")
        else:
            self._unsent.append(frame)

    async def listen(self, subject: str, queue: str, deliver: Deliver) -> Stop:
        if self._closed:
            raise BusClosed("the connection is closed")
        interest = self.open(subject, queue, deliver)

        async def stop() -> None:
            self._mine.remove(interest)
            self._fabric.remove(interest)

        return stop

    def open(self, subject: str, queue: str, deliver: Deliver) -> Interest:
        """What `listen` does, without waiting."""
        interest = Interest(self, subject, queue, deliver)
        self._mine.append(interest)
        self._fabric.add(interest)
        return interest

    async def flush(self) -> None:
        if not self.is_connected:
            raise Disconnected("no connection")
        await asyncio.sleep(0)

    async def close(self) -> None:
        self._closed = True
        for interest in self._mine:
            self._fabric.remove(interest)

    def disconnect(self) -> None:
        self._connected = False
        self.on_lost()

    def reconnect(self) -> None:
        self._connected = True
        unsent, self._unsent = self._unsent, []
        for frame in unsent:
            self._fabric.route(self, frame)
        self.on_regained()
