"""An actor's life, seen by the pod: hello, heartbeats, mailbox, drain, good-bye."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from xpod_proto import (
    Ack,
    Down,
    FetchBlocks,
    Heartbeat,
    Hello,
    MatchBlocks,
    Message,
    RollCall,
    StoreBlocks,
    subjects,
)
from xpod_proto.messages import Value
from xpod_runtime.actor import Actor
from xpod_runtime.config import ServiceConfig
from xpod_runtime.errors import NoResponders, RemoteError, RestartLimitExceeded
from xpod_runtime.handlers import handles
from xpod_runtime.local_bus import LocalBus, LocalFabric
from xpod_runtime.supervision import ChildSpec
from xpod_runtime.testing import LIMIT, Flag, Recorder

CONFIG = ServiceConfig(pod="pod", id="one", heartbeat=0.01, mailbox=2, drain=LIMIT)


class Echo(Actor):
    kind = "mempool"

    def __init__(self, config: ServiceConfig, data: LocalBus, control: LocalBus) -> None:
        super().__init__(config, data, control)
        self.gate = asyncio.Event()
        self.events: list[str] = []
        self.entered = Recorder()

    async def setup(self) -> None:
        self.events.append(f"setup {self.state}")
        self.fingerprint = "abc"

    async def drain(self) -> None:
        self.events.append(f"drain {self.state}")
        self.gate.set()

    async def teardown(self) -> None:
        self.events.append("teardown")

    def load(self) -> dict[str, Value]:
        return {"queue": 3}

    def detail(self) -> dict[str, Value]:
        return {"size": 1.5}

    @handles(FetchBlocks)
    async def on_fetch(self, message: FetchBlocks) -> Message:
        return Ack(str(len(message.names)))

    @handles(MatchBlocks)
    async def on_match(self, message: MatchBlocks) -> Message:
        await self.entered(message)
        await self.gate.wait()
        return Ack("matched")


class Pod:
    """Two buses for the actor, one for the one who looks on, and what that one hears."""

    def __init__(self) -> None:
        self.fabric = LocalFabric()
        self.data, self.control = LocalBus(self.fabric, "data"), LocalBus(self.fabric, "control")
        self.eye = LocalBus(self.fabric, "eye")
        self.heard = {"hello": Recorder(), "heartbeat": Recorder(), "down": Recorder()}

    async def watch(self) -> None:
        await self.eye.subscribe(subjects.hello("pod"), self.heard["hello"])
        await self.eye.subscribe(subjects.heartbeat("pod", "mempool"), self.heard["heartbeat"])
        await self.eye.subscribe(subjects.down("pod"), self.heard["down"])

    async def hellos(self, count: int) -> list[Hello]:
        heard = await self.heard["hello"].wait(count)
        return [message for message in heard if isinstance(message, Hello)]


@pytest_asyncio.fixture
async def pod() -> AsyncIterator[Pod]:
    pod = Pod()
    await pod.watch()
    yield pod
    for bus in (pod.data, pod.control, pod.eye):
        await bus.close()


@pytest_asyncio.fixture
async def echo(pod: Pod) -> AsyncIterator[Echo]:
    actor = Echo(CONFIG, pod.data, pod.control)
    await actor.start()
    yield actor
    actor.gate.set()
    await actor.stop()


async def test_hello_at_start_and_when_up(pod: Pod, echo: Echo) -> None:
    first, second = await pod.hellos(2)
    assert (first.state, second.state) == ("starting", "up")
    assert (second.member, second.kind, second.fingerprint) == ("one", "mempool", "abc")
    assert second.detail == {"size": 1.5}
    assert second.incarnation == first.incarnation == echo.incarnation
    assert echo.events == ["setup starting"]


async def test_hello_on_roll_call_and_after_a_reconnect(pod: Pod, echo: Echo) -> None:
    await pod.hellos(2)
    await pod.eye.publish(subjects.hello("pod"), RollCall("eye"))
    assert (await pod.hellos(4))[-1].member == "one"  # two hellos, the roll call, the answer
    pod.control.disconnect()
    pod.control.reconnect()
    assert (await pod.hellos(5))[-1].state == "up"
    assert echo.state == "up"


async def test_heartbeats_are_numbered_and_carry_the_load(pod: Pod, echo: Echo) -> None:
    beats = [beat for beat in await pod.heard["heartbeat"].wait(3) if isinstance(beat, Heartbeat)]
    assert [beat.sequence for beat in beats[:3]] == [1, 2, 3]
    assert beats[-1].load == {"queue": 3}
    assert beats[-1].incarnation == echo.incarnation


async def test_the_mailbox_dispatches_by_type(pod: Pod, echo: Echo) -> None:
    assert await pod.eye.request(echo.subject, FetchBlocks((b"a", b"b")), timeout=LIMIT) == Ack("2")
    with pytest.raises(RemoteError) as caught:
        await pod.eye.request(echo.subject, StoreBlocks(()), timeout=LIMIT)
    assert caught.value.code == "unhandled"
    assert caught.value.message == "one does not take StoreBlocks"


async def test_a_full_mailbox_refuses(pod: Pod, echo: Echo) -> None:
    calls = [
        asyncio.create_task(pod.eye.request(echo.subject, MatchBlocks(()), timeout=LIMIT)) for _ in range(2)
    ]
    await echo.entered.wait(2)
    with pytest.raises(RemoteError) as caught:
        await pod.eye.request(echo.subject, FetchBlocks(()), timeout=LIMIT)
    assert caught.value.code == "busy"
    assert echo.mailbox.refused == 1
    echo.gate.set()
    assert await asyncio.gather(*calls) == [Ack("matched")] * 2


async def test_leaving_in_order(pod: Pod, echo: Echo) -> None:
    under_way = asyncio.create_task(pod.eye.request(echo.subject, MatchBlocks(()), timeout=LIMIT))
    await echo.entered.wait()
    await echo.stop()
    assert await under_way == Ack("matched")
    assert (await pod.hellos(3))[-1].state == "draining"
    assert await pod.heard["down"].wait() == [Down("one", echo.incarnation, "drained")]
    assert echo.events == ["setup starting", "drain draining", "teardown"]
    with pytest.raises(NoResponders):
        await pod.eye.request(echo.subject, FetchBlocks(()), timeout=LIMIT)
    await echo.stop()


async def test_a_failing_drain_still_says_good_bye(pod: Pod) -> None:
    class Faulty(Echo):
        async def drain(self) -> None:
            raise ValueError("bug")

    actor = Faulty(CONFIG, pod.data, pod.control)
    await actor.start()
    await actor.stop()
    assert await pod.heard["down"].wait() == [Down("one", actor.incarnation, "drained")]
    assert actor.events[-1] == "teardown"


async def test_a_drain_has_a_deadline(pod: Pod) -> None:
    class Stuck(Echo):
        async def drain(self) -> None:
            await asyncio.Event().wait()

    actor = Stuck(CONFIG.model_copy(update={"drain": 0.01}), pod.data, pod.control)
    await actor.start()
    await actor.stop()
    assert await pod.heard["down"].wait() == [Down("one", actor.incarnation, "drained")]


async def test_run_until_told_to_stop(pod: Pod) -> None:
    actor, stop = Echo(CONFIG, pod.data, pod.control), asyncio.Event()
    running = asyncio.create_task(actor.run(stop))
    await pod.hellos(2)
    stop.set()
    await running
    assert actor.state == "gone"


async def test_run_stopped_during_setup(pod: Pod) -> None:
    began = Flag()

    class Slow(Echo):
        async def setup(self) -> None:
            began()
            await asyncio.Event().wait()

    actor, stop = Slow(CONFIG, pod.data, pod.control), asyncio.Event()
    running = asyncio.create_task(actor.run(stop))
    await began.wait()
    stop.set()
    await running
    assert actor.events == ["teardown"]


async def test_a_failing_setup_leaves_run(pod: Pod) -> None:
    class Broken(Echo):
        async def setup(self) -> None:
            raise ValueError("no weights")

    actor = Broken(CONFIG, pod.data, pod.control)
    with pytest.raises(ValueError, match="no weights"):
        await actor.run(asyncio.Event())
    assert await pod.heard["down"].wait() == [Down("one", actor.incarnation, "failed")]
    assert actor.events == ["teardown"]


async def test_a_hopeless_child_leaves_run(pod: Pod) -> None:
    async def fail() -> None:
        raise RuntimeError("always")

    class Sick(Echo):
        async def setup(self) -> None:
            self.tree.add(ChildSpec("sick", fail))

    actor = Sick(CONFIG, pod.data, pod.control)
    with pytest.raises(RestartLimitExceeded, match="one/sick was restarted 5 times"):
        await actor.run(asyncio.Event())
    assert await pod.heard["down"].wait() == [Down("one", actor.incarnation, "failed")]


async def test_an_actor_hears_others_where_it_listens(pod: Pod) -> None:
    class Watcher(Echo):
        async def setup(self) -> None:
            self.seen = Recorder()
            await self.listen(subjects.heartbeat(self.pod, "mempool"), control=True)

        @handles(Hello, Heartbeat)
        async def on_life(self, message: Message) -> None:
            await self.seen(message)

    actor = Watcher(CONFIG.model_copy(update={"mailbox": 100}), pod.data, pod.control)
    await actor.start()
    types = {type(message) for message in await actor.seen.wait(3)}
    assert types == {Hello, Heartbeat}
    await actor.stop()


async def test_children_end_before_what_they_use_is_torn_down(pod: Pod) -> None:
    actor = Echo(CONFIG, pod.data, pod.control)
    running = asyncio.Event()

    async def child() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            actor.events.append("child ended")

    actor.tree.add(ChildSpec("child", child))
    await actor.start()
    async with asyncio.timeout(LIMIT):
        await running.wait()
    await actor.stop()
    assert actor.events[-2:] == ["child ended", "teardown"]
