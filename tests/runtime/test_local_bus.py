"""The in-memory bus's faults: each does what it says, and the same seed does the same."""

from __future__ import annotations

import asyncio

import pytest

from xpod_proto import Ack, Message
from xpod_runtime.errors import DeadlineExceeded, Disconnected, NoResponders
from xpod_runtime.fault_plan import Delivery, Fault, FaultPlan, Rule, subject_matches
from xpod_runtime.local_bus import LocalBus, LocalFabric
from xpod_runtime.testing import LIMIT, Flag, Recorder


async def echo(message: Message) -> Message:
    return message


async def heard_through(plan: FaultPlan, count: int = 4, delay: float = 0.0) -> tuple[LocalFabric, Recorder]:
    """Publishes `count` numbered messages through the plan, and an end mark past it."""
    fabric = LocalFabric(plan, delay=delay)
    sender, receiver = LocalBus(fabric, "sender"), LocalBus(fabric, "receiver")
    heard, end = Recorder(), Recorder()
    await receiver.subscribe("box", heard)
    await receiver.subscribe("end", end)
    for number in range(count):
        await sender.publish("box", Ack(str(number)))
    await sender.publish("end", Ack())
    await end.wait()
    return fabric, heard


def notes(heard: Recorder) -> list[str]:
    return [message.note for message in heard.messages if isinstance(message, Ack)]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault.DROP, ["0", "2", "3"]),
        (Fault.DUPLICATE, ["0", "1", "1", "2", "3"]),
        (Fault.REORDER, ["0", "2", "1", "3"]),
        (Fault.CORRUPT, ["0", "2", "3"]),
        (Fault.HOLD, ["0", "2", "3"]),
    ],
)
async def test_faults(fault: Fault, expected: list[str]) -> None:
    _, heard = await heard_through(FaultPlan([Rule(fault, subject="box", skip=1, limit=1)]))
    if fault is Fault.CORRUPT:  # a flipped bit in the text of so small a message may still be a message
        assert notes(heard)[:1] == ["0"]
        assert "1" not in notes(heard)
        return
    assert notes(heard) == expected


@pytest.mark.parametrize(("order", "expected"), [("fifo", ["0", "1", "2"]), ("lifo", ["2", "1", "0"])])
async def test_held_messages_come_when_released(order: str, expected: list[str]) -> None:
    fabric, heard = await heard_through(FaultPlan([Rule(Fault.HOLD, subject="box")]), count=3)
    assert notes(heard) == []
    assert fabric.release(order=order) == 3
    await heard.wait(3)
    assert notes(heard) == expected


async def test_a_delayed_message_is_overtaken_and_comes() -> None:
    _, heard = await heard_through(FaultPlan([Rule(Fault.DELAY, "box", limit=2)]), count=3, delay=0.05)
    await heard.wait(3)
    assert notes(heard) == ["2", "0", "1"], "the delayed ones in their own order"


async def test_the_same_seed_gives_the_same_faults() -> None:
    def decisions(seed: int) -> list[Fault | None]:
        plan = FaultPlan([Rule(Fault.DROP, probability=0.5)], seed=seed)
        return [plan.decide(Delivery("box", "a", "b", number)) for number in range(50)]

    assert decisions(1) == decisions(1)
    assert decisions(1) != decisions(2)


async def test_a_partition_cuts_and_heals() -> None:
    plan = FaultPlan()
    fabric = LocalFabric(plan)
    asker, server = LocalBus(fabric, "asker"), LocalBus(fabric, "server")
    await server.subscribe("echo", echo)
    plan.partition(["asker"], ["server"])
    with pytest.raises(DeadlineExceeded):
        await asker.request("echo", Ack(), timeout=0.02)
    plan.heal()
    assert await asker.request("echo", Ack(), timeout=LIMIT) == Ack()


async def test_a_lost_connection_fails_requests_and_comes_back() -> None:
    fabric = LocalFabric()
    asker, server = LocalBus(fabric, "asker"), LocalBus(fabric, "server")
    back, started = Flag(), Recorder()
    asker.on_reconnect(back)

    async def hang(message: Message) -> Message | None:
        await started(message)
        await asyncio.Event().wait()
        return None

    await server.subscribe("hang", hang)
    await server.subscribe("echo", echo)
    waiting = asyncio.create_task(asker.request("hang", Ack(), timeout=3600))
    await started.wait()
    asker.disconnect()
    with pytest.raises(Disconnected):
        await waiting
    with pytest.raises(Disconnected):
        await asker.request("echo", Ack(), timeout=3600)
    asker.reconnect()
    assert back
    server.disconnect()
    with pytest.raises(NoResponders):
        await asker.request("echo", Ack(), timeout=3600)
    server.reconnect()
    assert await asker.request("echo", Ack(), timeout=LIMIT) == Ack()
    await server.close()


async def test_what_was_published_while_disconnected_arrives_later() -> None:
    fabric = LocalFabric()
    sender, receiver = LocalBus(fabric, "sender"), LocalBus(fabric, "receiver")
    heard = Recorder()
    await receiver.subscribe("news", heard)
    sender.disconnect()
    await sender.publish("news", Ack("held"))
    sender.reconnect()
    assert await heard.wait() == [Ack("held")]


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a", "a", True),
        (">", "a.b", True),
        ("a.>", "a", False),
        ("a.*.c", "a.b.c", True),
        ("a.b", "a.b.c", False),
    ],
)
def test_subject_matches(pattern: str, subject: str, expected: bool) -> None:
    assert subject_matches(pattern, subject) is expected
