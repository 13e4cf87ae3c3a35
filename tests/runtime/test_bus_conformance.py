"""What every bus promises, on the in-memory bus and on a real nats-server alike."""

from __future__ import annotations

import asyncio

import pytest

from runtime.buses import MakeBus, echo, fresh, large, listen, pair
from xpod_proto import Ack, Message, RollCall
from xpod_runtime.errors import (
    BusClosed,
    Busy,
    DeadlineExceeded,
    MessageTooLarge,
    NoResponders,
    RemoteError,
)
from xpod_runtime.receiving import Limits
from xpod_runtime.testing import LIMIT, Recorder
from xpod_runtime.wire_bus import WireBus

MIB = 1024 * 1024


async def test_publish_reaches_every_subscriber(make_bus: MakeBus) -> None:
    sender, one = await pair(make_bus)
    two = await make_bus("two")
    subject, first, second = fresh(), Recorder(), Recorder()
    await listen(one, subject, first)
    await listen(two, subject, second)
    await sender.publish(subject, Ack("hello"))
    assert await first.wait() == [Ack("hello")]
    assert await second.wait() == [Ack("hello")]


async def test_a_bus_hears_itself(make_bus: MakeBus) -> None:
    bus, subject, heard = await make_bus(), fresh(), Recorder()
    await listen(bus, subject, heard)
    await bus.publish(subject, Ack("me"))
    assert await heard.wait() == [Ack("me")]


@pytest.mark.parametrize(
    ("pattern", "subject", "hears"),
    [
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.*", "a", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("*.b", "a.b", True),
        ("a.*.c", "a.x.c", True),
        ("a.b", "a.c", False),
    ],
)
async def test_wildcards(make_bus: MakeBus, pattern: str, subject: str, hears: bool) -> None:
    sender, receiver = await pair(make_bus)
    root, matched, all_of_it = fresh(), Recorder(), Recorder()
    await listen(receiver, f"{root}.{pattern}", matched)
    await listen(receiver, f"{root}.>", all_of_it)
    await sender.publish(f"{root}.{subject}", Ack("x"))
    await sender.publish(f"{root}.end", Ack("end"))
    await all_of_it.wait(2)  # one connection keeps order, so whatever `matched` gets is there too
    assert (Ack("x") in matched.messages) is hears


async def test_a_queue_group_gets_each_message_once(make_bus: MakeBus) -> None:
    sender, one = await pair(make_bus)
    two, subject = await make_bus("two"), fresh()
    got = Recorder(lambda message: message)
    await listen(one, subject, got, queue="group")
    await listen(two, subject, got, queue="group")
    answers = await asyncio.gather(
        *(sender.request(subject, Ack(str(number)), timeout=LIMIT) for number in range(100))
    )
    assert answers == [Ack(str(number)) for number in range(100)]
    assert len(got.messages) == 100


async def test_request_and_reply(make_bus: MakeBus) -> None:
    asker, server = await pair(make_bus)
    subject = fresh()
    await listen(server, subject, echo)
    assert await asker.request(subject, RollCall("me"), timeout=LIMIT) == RollCall("me")


async def test_many_requests_at_once(make_bus: MakeBus) -> None:
    asker, server = await pair(make_bus)
    subject = fresh()
    await listen(server, subject, echo)
    calls = [asker.request(subject, Ack(str(number)), timeout=LIMIT) for number in range(1000)]
    assert await asyncio.gather(*calls) == [Ack(str(number)) for number in range(1000)]


async def test_nobody_there_is_known_at_once(make_bus: MakeBus) -> None:
    asker = await make_bus()
    with pytest.raises(NoResponders, match="nobody listens"):
        await asker.request(fresh(), Ack(), timeout=3600)


async def test_deadline(make_bus: MakeBus) -> None:
    asker, server = await pair(make_bus)
    subject, never = fresh(), asyncio.Event()

    async def hang(message: Message) -> Message:
        await never.wait()
        return message

    await listen(server, subject, hang)
    with pytest.raises(DeadlineExceeded, match=r"0\.05 s"):
        await asker.request(subject, Ack(), timeout=0.05)


async def test_a_late_answer_is_dropped(make_bus: MakeBus) -> None:
    asker, server = await pair(make_bus)
    subject, gate = fresh(), asyncio.Event()

    async def slow(message: Message) -> Message:
        if message == Ack("late"):
            await gate.wait()
        return message

    await listen(server, subject, slow)
    with pytest.raises(DeadlineExceeded):
        await asker.request(subject, Ack("late"), timeout=0.05)
    gate.set()
    assert await asker.request(subject, Ack("next"), timeout=LIMIT) == Ack("next")


async def test_an_expected_error_reaches_the_requester_with_its_code(make_bus: MakeBus) -> None:
    asker, server = await pair(make_bus)
    subject = fresh()

    async def refuse(message: Message) -> Message:
        raise Busy("come back later")

    await listen(server, subject, refuse)
    with pytest.raises(RemoteError) as caught:
        await asker.request(subject, Ack(), timeout=LIMIT)
    assert (caught.value.code, caught.value.message) == ("busy", "come back later")


async def test_a_crash_in_a_handler_is_answered_and_the_next_message_is_served(make_bus: MakeBus) -> None:
    asker, server = await pair(make_bus)
    subject = fresh()

    async def crash_once(message: Message) -> Message:
        if message == Ack("bad"):
            raise KeyError("oops")
        return message

    await listen(server, subject, crash_once)
    with pytest.raises(RemoteError) as caught:
        await asker.request(subject, Ack("bad"), timeout=LIMIT)
    assert caught.value.code == "internal"
    assert "KeyError" in caught.value.message
    assert await asker.request(subject, Ack("good"), timeout=LIMIT) == Ack("good")


async def test_a_request_that_nobody_answers_is_an_error(make_bus: MakeBus) -> None:
    asker, server = await pair(make_bus)
    subject = fresh()
    await listen(server, subject, Recorder())
    with pytest.raises(RemoteError) as caught:
        await asker.request(subject, Ack(), timeout=LIMIT)
    assert caught.value.code == "no_answer"


async def test_a_bad_message_is_answered_counted_and_survived(make_bus: MakeBus) -> None:
    asker, server = await pair(make_bus)
    assert isinstance(asker, WireBus)
    assert isinstance(server, WireBus)
    subject = fresh()
    await listen(server, subject, echo)
    with pytest.raises(RemoteError) as caught:
        await asker._ask(subject, (b"\xc1 not msgpack",), LIMIT)
    assert caught.value.code == "bad_message"
    await asker._wire.send(subject, (b"",))
    assert await asker.request(subject, Ack("good"), timeout=LIMIT) == Ack("good")
    assert server.bad_messages == 2


async def test_handlers_start_in_order(make_bus: MakeBus) -> None:
    sender, receiver = await pair(make_bus)
    subject, heard = fresh(), Recorder()
    await listen(receiver, subject, heard)
    for number in range(1000):
        await sender.publish(subject, Ack(str(number)))
    assert await heard.wait(1000) == [Ack(str(number)) for number in range(1000)]


async def test_a_slow_handler_does_not_hold_up_the_next(make_bus: MakeBus) -> None:
    asker, server = await pair(make_bus)
    subject, gate = fresh(), asyncio.Event()

    async def first_waits_for_second(message: Message) -> Message:
        if message == Ack("first"):
            await gate.wait()
        gate.set()
        return message

    await listen(server, subject, first_waits_for_second)
    calls = [asker.request(subject, Ack(name), timeout=LIMIT) for name in ("first", "second")]
    assert await asyncio.gather(*calls) == [Ack("first"), Ack("second")]


@pytest.mark.parametrize("size", [300_000, 5 * MIB])
async def test_a_large_request_and_its_large_answer(make_bus: MakeBus, size: int) -> None:
    asker, server = await pair(make_bus, payload_limit=0 if size > MIB else 10_000)
    subject, message = fresh(), large(size)
    await listen(server, subject, echo)
    assert await asker.request(subject, message, timeout=LIMIT) == message


async def test_a_large_answer_to_a_small_request(make_bus: MakeBus) -> None:
    asker, server = await pair(make_bus)
    subject, message = fresh(), large(3 * MIB)
    await listen(server, subject, Recorder(lambda _: message))
    assert await asker.request(subject, Ack(), timeout=LIMIT) == message


async def test_a_large_publish_returns_when_it_has_arrived(make_bus: MakeBus) -> None:
    sender, receiver = await pair(make_bus)
    subject, message, heard = fresh(), large(4 * MIB), Recorder()
    await listen(receiver, subject, heard)
    await sender.publish(subject, message)
    assert await heard.wait() == [message]


async def test_large_messages_to_a_queue_group_go_to_one_member(make_bus: MakeBus) -> None:
    sender, one = await pair(make_bus, payload_limit=1000)
    two, subject, heard = await make_bus("two", payload_limit=1000), fresh(), Recorder()
    await listen(one, subject, heard, queue="group")
    await listen(two, subject, heard, queue="group")
    for _ in range(10):
        await sender.publish(subject, large(10_000))
    assert await heard.wait(10) == [large(10_000)] * 10


async def test_many_large_requests_at_once(make_bus: MakeBus) -> None:
    asker, server = await pair(make_bus, payload_limit=5_000)
    subject = fresh()
    await listen(server, subject, echo)
    messages = [large(20_000 + 4 * number) for number in range(30)]
    answers = await asyncio.gather(*(asker.request(subject, each, timeout=LIMIT) for each in messages))
    assert answers == messages


async def test_a_large_message_to_nobody(make_bus: MakeBus) -> None:
    sender = await make_bus(payload_limit=1000)
    with pytest.raises(NoResponders):
        await sender.publish(fresh(), large(10_000))
    with pytest.raises(NoResponders):
        await sender.request(fresh(), large(10_000), timeout=3600)


async def test_a_message_beyond_all_bounds_is_refused(make_bus: MakeBus) -> None:
    limits = Limits(transfer_bytes=20_000)
    sender, receiver = await pair(make_bus, payload_limit=1000, limits=limits)
    subject, heard = fresh(), Recorder()
    await listen(receiver, subject, heard)
    with pytest.raises(MessageTooLarge):
        await sender.publish(subject, large(30_000))
    await sender.publish(subject, large(10_000))
    assert await heard.wait() == [large(10_000)]


async def test_unsubscribe(make_bus: MakeBus) -> None:
    asker, server = await pair(make_bus)
    subject = fresh()
    subscription = await server.subscribe(subject, echo)
    await server.flush()
    assert await asker.request(subject, Ack(), timeout=LIMIT) == Ack()
    await subscription.unsubscribe()
    await subscription.unsubscribe()
    await server.flush()
    with pytest.raises(NoResponders):
        await asker.request(subject, Ack(), timeout=LIMIT)


async def test_close_fails_whoever_waits(make_bus: MakeBus) -> None:
    asker, server = await pair(make_bus)
    subject, started = fresh(), Recorder()

    async def hang(message: Message) -> Message | None:
        await started(message)
        await asyncio.Event().wait()
        return None

    await listen(server, subject, hang)
    waiting = asyncio.create_task(asker.request(subject, Ack(), timeout=3600))
    await started.wait()
    await asker.close()
    await asker.close()
    with pytest.raises(BusClosed):
        await waiting
    assert not asker.is_connected
    for call in (asker.publish(subject, Ack()), asker.request(subject, Ack(), timeout=1), asker.flush()):
        with pytest.raises(BusClosed):
            await call


async def test_close_ends_the_subscriptions(make_bus: MakeBus) -> None:
    asker, server = await pair(make_bus)
    subject = fresh()
    await listen(server, subject, echo)
    await server.close()
    await asker.flush()
    with pytest.raises((NoResponders, DeadlineExceeded)):
        await asker.request(subject, Ack(), timeout=0.5)


async def test_a_handler_may_use_its_own_bus(make_bus: MakeBus) -> None:
    asker, server = await pair(make_bus)
    front, back = fresh(), fresh()

    async def forward(message: Message) -> Message:
        return await server.request(back, message, timeout=LIMIT)

    await listen(server, front, forward)
    await listen(server, back, echo)
    assert await asker.request(front, Ack("through"), timeout=LIMIT) == Ack("through")


async def test_a_cancelled_request_leaves_nothing_behind(make_bus: MakeBus) -> None:
    asker, server = await pair(make_bus)
    assert isinstance(asker, WireBus)
    subject, started = fresh(), Recorder()

    async def hang(message: Message) -> Message | None:
        await started(message)
        await asyncio.Event().wait()
        return None

    await listen(server, subject, hang)
    waiting = asyncio.create_task(asker.request(subject, Ack(), timeout=3600))
    await started.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(asker._inbox) == 0
    assert not asker._asking
