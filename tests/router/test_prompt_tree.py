"""The prompt tree follows what members say, and in the end knows what is so, whatever was lost on the way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from router.pod_fakes import POD, FakeMember, seen
from xpod.common.view import PodView
from xpod.router.prompt_tree import PromptTree
from xpod_proto import BlocksChanged, Message, subjects
from xpod_runtime.fault_plan import Fault, FaultPlan, Rule
from xpod_runtime.local_bus import LocalBus, LocalFabric
from xpod_runtime.testing import LIMIT, Recorder

KV = subjects.kv(POD)


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


def some(*numbers: int) -> set[bytes]:
    return set(map(name, numbers))


class Bench:
    """A prompt tree on a fabric of its own, and members that it follows."""

    def __init__(self) -> None:
        self.fabric = LocalFabric()
        self.bus = LocalBus(self.fabric, "router-0")
        self.view = PodView(self.bus, POD)
        self.tree = PromptTree(self.view, self.bus, "router-0")
        self.heard, self.beaten = Recorder(), Recorder()

    async def start(self) -> None:
        await self.bus.subscribe(KV, self._on_event)
        self.bus.on_reconnect(self.tree.reconnected)
        self.view.listen(self.tree.on_member)
        self.view.on_heartbeat(self.tree.heartbeat)
        await self.view.start()
        await self.bus.subscribe(subjects.heartbeat(POD, "mempool"), self.beaten)

    async def _on_event(self, message: Message) -> None:
        await self.tree.on_event(message)
        await self.heard(message)

    async def joined(self, kind: str, index: int = 0, *blocks: int) -> FakeMember:
        """A new member that has these blocks, once it is known."""
        member = FakeMember(self.fabric, kind, f"{kind}-{index}")
        member.blocks = some(*blocks)
        await member.open()
        await seen(self.view, member.name)
        await self.settled()
        return member

    async def arrived(self, member: FakeMember) -> None:
        """Returns once its last event has arrived, and all questions are answered."""
        wanted = (member.name, member.incarnation, member.sequence)
        count = 0
        while not any(
            (each.member, each.incarnation, each.sequence) == wanted
            for each in self.heard.messages
            if isinstance(each, BlocksChanged)
        ):
            count = len(await self.heard.wait(count + 1))
        await self.settled()

    async def beats(self, member: FakeMember) -> None:
        """Returns once another heartbeat of it has arrived."""
        count = len(self.beaten.messages)
        await member.heartbeat(kv_sequence=member.sequence)
        await self.beaten.wait(count + 1)

    async def settled(self) -> None:
        async with asyncio.timeout(LIMIT):
            await self.tree.settled()

    def knows(self, member: FakeMember) -> bool:
        return self.tree.index.names(member.name) == member.blocks


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.start()
    yield bench
    bench.tree.stop()
    await bench.bus.close()


@pytest.mark.parametrize("kind", ["mempool", "prefill"])
async def test_who_comes_is_asked_and_then_followed(bench: Bench, kind: str) -> None:
    member = await bench.joined(kind, 0, 1, 2)
    assert bench.tree.index.names(member.name) == some(1, 2)
    await member.change(some(3), some(1))
    await bench.arrived(member)
    assert bench.tree.index.names(member.name) == some(2, 3)
    assert member.asked == 1


async def test_who_starts_is_asked_once_it_is_up(bench: Bench) -> None:
    member = FakeMember(bench.fabric, "mempool", "mempool-0")
    member.blocks = some(1)
    await member.hello("starting")
    await seen(bench.view, member.name, "starting")
    await bench.settled()
    assert bench.tree.index.names(member.name) == set()
    await member.open()
    await seen(bench.view, member.name)
    await bench.settled()
    assert bench.knows(member)
    assert member.asked == 1


async def test_others_are_not_asked(bench: Bench) -> None:
    member = await bench.joined("decode", 0, 1)
    await member.change(some(2))
    await bench.arrived(member)
    assert (member.asked, len(bench.tree.index)) == (0, 0)


async def test_who_has_how_much(bench: Bench) -> None:
    await bench.joined("mempool", 0, 1, 3)
    leaving = await bench.joined("mempool", 1, 2)
    await bench.joined("prefill", 0, 1, 2)
    found = bench.tree.match(map(name, (1, 2, 3, 4)))
    assert (found.held, found.together) == ({"mempool-0": 1, "prefill-0": 2}, 3)
    await leaving.hello("draining")
    await seen(bench.view, leaving.name, "draining")
    assert bench.tree.match(map(name, (1, 2, 3, 4))).together == 1, "who leaves gives nothing"


async def test_a_lost_event(bench: Bench) -> None:
    member = await bench.joined("mempool")
    bench.fabric.plan = FaultPlan([Rule(Fault.DROP, KV, limit=1)])
    for number in (1, 2):
        await member.change(some(number))
    await bench.arrived(member)
    assert bench.knows(member)
    assert member.asked == 2


async def test_a_lost_event_that_none_follows(bench: Bench) -> None:
    """Heartbeats tell how many there were."""
    member = await bench.joined("mempool")
    bench.fabric.plan = FaultPlan([Rule(Fault.DROP, KV, limit=1)])
    await member.change(some(1))
    for _ in range(2):
        await bench.beats(member)
    await bench.settled()
    assert bench.knows(member)
    await bench.beats(member)
    assert member.asked == 2


async def test_events_while_a_snapshot_is_under_way(bench: Bench) -> None:
    """Those that it has already, and those that it has not."""
    bench.fabric.plan = FaultPlan([Rule(Fault.HOLD, "_INBOX.>", target="router-0", limit=1)])
    member = FakeMember(bench.fabric, "mempool", "mempool-0")
    member.blocks = some(1)
    await member.open()
    async with asyncio.timeout(LIMIT):
        await bench.fabric.holding()
    for number in range(2, 6):
        await member.change(some(number), some(number - 1))
    await bench.heard.wait(4)
    assert bench.tree.index.names(member.name) == set()
    bench.fabric.release()
    await bench.settled()
    assert bench.knows(member)
    assert member.asked == 1


async def test_a_question_that_is_lost_is_asked_again(bench: Bench) -> None:
    bench.fabric.plan = FaultPlan([Rule(Fault.DROP, subjects.mailbox(POD, "mempool", "mempool-0"), limit=1)])
    member = await bench.joined("mempool", 0, 1, 2)
    assert bench.knows(member)


async def test_another_process_under_the_same_name(bench: Bench) -> None:
    member = await bench.joined("mempool", 0, 1, 2)
    member.restart(some(7))
    await member.hello()
    await seen(bench.view, member.name, incarnation="i1")
    await bench.settled()
    assert bench.tree.index.names(member.name) == some(7)
    member.restart()
    await member.change(some(8))  # it overtakes its hello
    await bench.arrived(member)
    assert bench.tree.index.names(member.name) == some(8)


async def test_the_answer_of_a_process_that_is_no_more(bench: Bench) -> None:
    """It comes after its successor's hello."""
    bench.fabric.plan = FaultPlan([Rule(Fault.HOLD, "_INBOX.>", target="router-0", limit=1)])
    member = FakeMember(bench.fabric, "mempool", "mempool-0")
    member.blocks = some(1)
    await member.open()
    async with asyncio.timeout(LIMIT):
        await bench.fabric.holding()
    member.restart(some(7))
    await member.hello()
    await seen(bench.view, member.name, incarnation="i1")
    bench.fabric.release()
    await bench.settled()
    assert bench.tree.index.names(member.name) == some(7)


async def test_who_goes_is_forgotten_and_may_come_back(bench: Bench) -> None:
    member = await bench.joined("mempool", 0, 1, 2)
    await member.leave()
    await seen(bench.view, member.name, "down")
    assert bench.tree.index.holders == []
    await member.change(some(3))
    await bench.arrived(member)
    assert bench.tree.index.holders == [], "late words of the dead"
    await member.heartbeat()
    await seen(bench.view, member.name)
    await bench.settled()
    assert bench.knows(member)


async def test_who_does_not_list_its_blocks_has_none(bench: Bench) -> None:
    member = FakeMember(bench.fabric, "prefill", "prefill-0")
    member.able = False
    await member.open()
    await seen(bench.view, member.name)
    await bench.settled()
    await member.change(some(1))
    await bench.arrived(member)
    assert (member.asked, len(bench.tree.index)) == (2, 0)
    member.able = True
    await member.change(some(2))
    await bench.arrived(member)
    assert bench.knows(member), "asked again at its next event"


async def test_after_our_connection_was_lost(bench: Bench) -> None:
    member = await bench.joined("mempool", 0, 1)
    bench.bus.disconnect()
    await member.change(some(2), some(1))
    bench.bus.reconnect()
    await bench.settled()
    assert bench.knows(member)


@pytest.mark.parametrize("seed", range(8))
async def test_a_disturbed_network(bench: Bench, seed: int) -> None:
    """Events are lost, doubled and overtaken, and so are questions and answers."""
    members = [await bench.joined(kind, index) for kind in ("mempool", "prefill") for index in range(2)]
    chance = random.Random(seed)
    faults = (Fault.DROP, Fault.DUPLICATE, Fault.REORDER)
    rules = [Rule(fault, KV, target="router-0", probability=0.2) for fault in faults]
    doubled = Rule(Fault.DUPLICATE, "_INBOX.>", target="router-0", probability=0.5)
    bench.fabric.plan = plan = FaultPlan([*rules, doubled], seed=seed)
    for step in range(60):
        member = chance.choice(members)
        numbers = [chance.randrange(30) for _ in range(6)]
        await member.change(some(*numbers[:3]), some(*numbers[3:]) - some(*numbers[:3]))
        if step % 7 == 0:
            await bench.bus.flush()
        if step == 40:
            members[0].restart(some(*numbers))
            await members[0].hello()
    assert all(rule.hits for rule in plan.rules[:3])
    bench.fabric.plan = FaultPlan()
    for member in members:
        await member.change(some(99))
    for member in members:
        await bench.arrived(member)
    assert [bench.tree.index.names(member.name) for member in members] == [each.blocks for each in members]
