"""Requests under way: answers, deadlines, and the one timer."""

from __future__ import annotations

import asyncio

import pytest

from xpod_proto import Ack
from xpod_runtime.asking import Ask, Asking
from xpod_runtime.errors import BusClosed, DeadlineExceeded
from xpod_runtime.inbox import Inbox
from xpod_runtime.testing import LIMIT
from xpod_runtime.wire import Frame


def asking() -> tuple[Asking, Inbox]:
    inbox = Inbox("i", lambda frame: None)
    return Asking(inbox), inbox


def read(ask: Ask, frame: Frame) -> None:
    ask.give(Ack(bytes(frame.data).decode()))


async def test_a_frame_for_the_reply_subject_ends_it() -> None:
    asks, inbox = asking()
    one, two = asks.open("s", LIMIT, read), asks.open("s", LIMIT, read)
    inbox.deliver(Frame(two.reply, "", b"two"))
    inbox.deliver(Frame(one.reply, "", b"one"))
    inbox.deliver(Frame(one.reply, "", b"again"))
    assert [await one.answer, await two.answer] == [Ack("one"), Ack("two")]
    asks.close(one)
    asks.close(two)
    assert len(asks) == len(inbox) == 0
    asks.stop()


async def test_deadlines_in_any_order() -> None:
    asks, _ = asking()
    opened = [asks.open(str(seconds), seconds, read) for seconds in (3600, 0.05, 0.02, 0.08)]
    for ask in (opened[2], opened[1], opened[3]):
        with pytest.raises(DeadlineExceeded, match=f"{ask.timeout:g} s"):
            async with asyncio.timeout(LIMIT):
                await ask.answer
    assert not opened[0].answer.done()
    asks.fail_all(BusClosed("x"))
    with pytest.raises(BusClosed):
        await opened[0].answer
    asks.stop()


async def test_a_deadline_after_those_before_it_were_met() -> None:
    asks, _ = asking()
    asks.close(asks.open("met", 0.01, read))
    late = asks.open("late", 0.03, read)
    with pytest.raises(DeadlineExceeded):
        async with asyncio.timeout(LIMIT):
            await late.answer
    asks.stop()
