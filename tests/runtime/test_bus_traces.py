"""Traces go with what is said, on every bus."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from runtime.buses import MakeBus, echo, fresh, large, listen, pair
from xpod_proto import Ack, Message, pieces_of
from xpod_runtime.testing import LIMIT
from xpod_runtime.trace_context import TraceContext, current, within
from xpod_runtime.wire_bus import WireBus


class Working:
    """A handler that notes what each message is to be worked on for."""

    def __init__(self, then: Callable[[Message], Awaitable[Message]] = echo) -> None:
        self.contexts: list[TraceContext | None] = []
        self.came = asyncio.Event()
        self._then = then

    async def __call__(self, message: Message) -> Message:
        self.contexts.append(current.get())
        self.came.set()
        return await self._then(message)


TRACE = TraceContext("1" * 32, "2" * 16, sampled=True)


@pytest.mark.parametrize("message", [Ack("small"), large(50_000)])
async def test_what_is_asked_within_a_trace_is_worked_on_within_it(
    make_bus: MakeBus, message: Message
) -> None:
    asker, server = await pair(make_bus, payload_limit=10_000)
    subject, working = fresh(), Working()
    await listen(server, subject, working)
    with within(TRACE):
        assert await asker.request(subject, message, timeout=LIMIT) == message
    assert await asker.request(subject, message, timeout=LIMIT) == message
    assert working.contexts == [TRACE, None]


@pytest.mark.parametrize("message", [Ack("small"), large(50_000)])
async def test_what_is_published_within_a_trace_is_worked_on_within_it(
    make_bus: MakeBus, message: Message
) -> None:
    sender, receiver = await pair(make_bus, payload_limit=10_000)
    subject, working = fresh(), Working()
    await listen(receiver, subject, working)
    with within(TRACE._replace(sampled=False)):
        await sender.publish(subject, message)
    async with asyncio.timeout(LIMIT):
        await working.came.wait()
    assert working.contexts == [TRACE._replace(sampled=False)]


async def test_a_trace_goes_on_from_bus_to_bus_and_not_back_with_the_answer(make_bus: MakeBus) -> None:
    asker, middle = await pair(make_bus)
    last = await make_bus("last")
    front, back = fresh(), fresh()

    async def forward(message: Message) -> Message:
        return await middle.request(back, message, timeout=LIMIT)

    working = Working()
    await listen(middle, front, forward)
    await listen(last, back, working)
    asked = asyncio.create_task(asker.request(front, Ack(), timeout=LIMIT))
    await asked
    with within(TRACE):
        await asker.request(front, Ack(), timeout=LIMIT)
    assert working.contexts == [None, TRACE]
    assert current.get() is None


async def test_a_header_that_is_no_trace_is_none(make_bus: MakeBus) -> None:
    asker, server = await pair(make_bus)
    assert isinstance(asker, WireBus)
    subject, working = fresh(), Working()
    await listen(server, subject, working)
    await asker._wire.send(subject, pieces_of(Ack()), trace="nonsense")
    async with asyncio.timeout(LIMIT):
        await working.came.wait()
    assert working.contexts == [None]
