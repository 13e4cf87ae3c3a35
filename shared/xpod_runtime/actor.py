"""An actor: typed handlers behind a mailbox, known to the pod from its hello to its good-bye.

Knows: the life of a member (starting, up, draining, gone) and what it tells the pod about itself.
Does not know: what the subclass does, or how its process was started (see `process`).
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import ClassVar

import structlog
from prometheus_client import CollectorRegistry, generate_latest

from xpod_proto import (
    PROTOCOL_VERSION,
    Ack,
    Down,
    Heartbeat,
    Hello,
    Message,
    MetricsText,
    ReadMetrics,
    ReadTrace,
    RollCall,
    TraceSpans,
    subjects,
)
from xpod_proto.messages import Value
from xpod_runtime.bus import Bus, Handler, Subscription
from xpod_runtime.config import ServiceConfig
from xpod_runtime.errors import XpodError
from xpod_runtime.handlers import Mailbox, handlers_of, handles
from xpod_runtime.supervision import ChildSpec, TaskTree
from xpod_runtime.tracing import Tracer


class Actor:
    """Subclass, mark methods with `@handles(Type)`, override the hooks.

    Handlers run concurrently on one event loop: state is safe between two awaits, not across one. `data` carries
    the work, `control` (another connection) the hello, heartbeats and whatever must not wait behind a burst.
    """

    kind: ClassVar[str] = ""
    """One of xpod_proto's kinds; empty takes the config's."""

    def __init__(self, config: ServiceConfig, data: Bus, control: Bus) -> None:
        self.config, self.data, self.control = config, data, control
        self.pod, self.member = config.pod, config.id
        self.member_kind = self.kind or config.kind
        self.incarnation = uuid.uuid4().hex
        self.started = time.time()
        self.state = "new"
        self.fingerprint = ""
        """The numerics of this process's kernels; set it in `setup`."""
        self.registry = CollectorRegistry()
        """What this member measures."""
        self.tracer = Tracer(config.trace_spans)
        """What this member did for which request."""
        self.metrics_url = ""
        """Where others read that; empty: nowhere."""
        self.told: dict[str, Value] = {}
        """The load of the last heartbeat."""
        self.log = structlog.get_logger(type(self).__module__)
        self.tree = TaskTree(self.member)
        self.when_up: Callable[[], None] = lambda: None
        """Called once, after `setup`, when the member is up."""
        self.mailbox = Mailbox(self.member, handlers_of(self), config.mailbox)
        self.control_mailbox = Mailbox(self.member, handlers_of(self), config.mailbox)
        """Apart, so that a flood of work does not make this member deaf to hellos and heartbeats."""
        self._beats = 0
        self._subscriptions: list[Subscription] = []
        self._tree_run: asyncio.Task[None] | None = None
        self._notices: set[asyncio.Task[None]] = set()

    @property
    def subject(self) -> str:
        """The mailbox's subject."""
        return subjects.mailbox(self.pod, self.member_kind, self.member)

    # -- hooks ------------------------------------------------------------------------------------------

    async def setup(self) -> None:
        """Loads, connects, subscribes. Heartbeats flow meanwhile; the mailbox opens afterwards."""

    async def drain(self) -> None:
        """Finishes or hands over what is under way, the mailbox still open; then it closes and running handlers
        finish. All of it is cancelled at the deadline (`config.drain` seconds)."""

    async def teardown(self) -> None:
        """Frees what `setup` took. Called once, also when `setup` failed."""

    def load(self) -> dict[str, Value]:
        """How busy this member is: numbers for the heartbeat."""
        return {}

    def told_load(self) -> dict[str, Value]:
        """`load`, and what all members of a family tell besides."""
        return self.load()

    def detail(self) -> dict[str, Value]:
        """What the pod should know of this member: for the hello."""
        return {}

    # -- life -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Says hello, sets up, opens the mailbox, says hello again as 'up'."""
        self.state = "starting"
        self.tree.add(ChildSpec("heartbeat", self._beat))
        self._tree_run = asyncio.get_running_loop().create_task(self.tree.run(), name=f"{self.member}/tree")
        self._subscriptions.append(
            await self.control.subscribe(subjects.hello(self.pod), self._on_hello_subject)
        )
        self._subscriptions.append(await self.control.subscribe(subjects.probe(self.pod, self.member), _here))
        for bus in (self.control, self.data):  # who waits for an answer asks again when it hears the hello
            bus.on_reconnect(self._announce)
        await self.say_hello()
        await self.setup()
        await self.listen(self.subject)
        await self._quietly("flush", self.data.flush())  # where it fails, the reconnect says hello again
        self.state = "up"
        self.when_up()
        await self.say_hello()

    async def run(self, until: asyncio.Event) -> None:
        """Starts, works until `until` is set, drains and leaves. Raises what the supervision tree raises."""
        stop = asyncio.create_task(until.wait())
        start = asyncio.create_task(self.start())
        reason = "failed"
        try:
            await asyncio.wait({stop, start}, return_when=asyncio.FIRST_COMPLETED)
            if start.done():
                await start
                assert self._tree_run is not None
                await asyncio.wait({stop, self._tree_run}, return_when=asyncio.FIRST_COMPLETED)
            reason = "drained" if stop.done() else reason
        finally:
            stop.cancel()
            start.cancel()
            await asyncio.gather(start, return_exceptions=True)
            await self.stop(reason)

    async def stop(self, reason: str = "drained") -> None:
        """Drains if up, says good-bye, frees everything. Raises what the supervision tree raised."""
        if self.state in ("new", "gone"):
            return
        if self.state == "up" and reason == "drained":
            await self._drain()
        await self._close_mailbox()
        await self._quietly("flush", self.data.flush())  # its last words come before its good-bye
        self.state = "gone"
        down = Down(member=self.member, incarnation=self.incarnation, reason=reason)
        await self._quietly("good-bye", self._tell(subjects.down(self.pod), down))
        try:
            await self._end_tree()  # before the teardown: its tasks use what that frees
        finally:
            await self.teardown()

    async def listen(
        self, subject: str, *, queue: str = "", control: bool = False, handler: Handler | None = None
    ) -> Subscription:
        """Takes messages from `subject` through the mailbox (or `handler`) until the actor stops."""
        bus, mailbox = (self.control, self.control_mailbox) if control else (self.data, self.mailbox)
        subscription = await bus.subscribe(subject, handler or mailbox, queue=queue)
        self._subscriptions.append(subscription)
        return subscription

    async def say_hello(self) -> None:
        """Introduces this member to the pod, in its present state."""
        hello = Hello(
            member=self.member,
            kind=self.member_kind,
            incarnation=self.incarnation,
            pid=os.getpid(),
            host=socket.gethostname(),
            protocol=PROTOCOL_VERSION,
            fingerprint=self.fingerprint,
            state=self.state,
            started=self.started,
            detail=self.detail() | ({"metrics": self.metrics_url} if self.metrics_url else {}),
            frames=self.data.frames,
        )
        await self.control.publish(subjects.hello(self.pod), hello)

    async def beat(self) -> None:
        """A heartbeat now; the regular ones go on beside it. For news of the load that others wait for."""
        # A beat that waits for a reconnect is stale, and the hello then says more.
        if self.control.is_connected and self.state != "gone":
            await self.control.publish(subjects.heartbeat(self.pod, self.member_kind), self._heartbeat())

    @handles(ReadMetrics)
    async def on_read_metrics(self, message: ReadMetrics) -> Message:
        """What is measured, for those who cannot reach `metrics_url`."""
        return MetricsText(generate_latest(self.registry).decode())

    @handles(ReadTrace)
    async def on_read_trace(self, message: ReadTrace) -> Message:
        """What this member did for a request, as far as it remembers."""
        return TraceSpans(self.member, self.member_kind, tuple(self.tracer.answer(message)))

    # -- inside -----------------------------------------------------------------------------------------

    async def _on_hello_subject(self, message: Message) -> Message | None:
        if isinstance(message, RollCall):
            await self.say_hello()
        if self.control_mailbox.knows(message):
            return await self.control_mailbox(message)
        return None

    async def _beat(self) -> None:
        while True:
            await self.beat()
            await asyncio.sleep(self.config.heartbeat)

    def _heartbeat(self) -> Heartbeat:
        self._beats += 1
        self.told = self.told_load()
        return Heartbeat(
            member=self.member,
            kind=self.member_kind,
            incarnation=self.incarnation,
            sequence=self._beats,
            state=self.state,
            load=self.told,
        )

    def _announce(self) -> None:
        if self.state in ("starting", "up", "draining"):
            task = asyncio.get_running_loop().create_task(self._quietly("hello", self.say_hello()))
            self._notices.add(task)
            task.add_done_callback(self._notices.discard)

    async def _drain(self) -> None:
        self.state = "draining"
        await self._quietly("hello", self.say_hello())
        try:
            async with asyncio.timeout(self.config.drain):
                await self.drain()
                await self._close_mailbox()
                await self.mailbox.idle()
        except TimeoutError:
            running = self.mailbox.running
            self.log.warning("drain ran out of time", seconds=self.config.drain, running=running)
        except Exception:  # it leaves all the same: the good-bye and the teardown are still due
            self.log.exception("drain failed")

    async def _close_mailbox(self) -> None:
        while self._subscriptions:
            await self._quietly("unsubscribe", self._subscriptions.pop().unsubscribe())

    async def _tell(self, subject: str, message: Message) -> None:
        await self.control.publish(subject, message)
        await self.control.flush()

    async def _quietly(self, what: str, work: Awaitable[object]) -> None:
        """A member that leaves while the bus is down still leaves in order."""
        try:
            await work
        except XpodError as error:
            self.log.warning("not said", what=what, code=error.code, error=str(error))

    async def _end_tree(self) -> None:
        self.tree.stop()
        if self._tree_run is not None:
            await self._tree_run


async def _here(message: Message) -> Message:
    return Ack()
