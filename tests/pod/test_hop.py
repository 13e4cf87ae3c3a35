"""The hop alone: who does not answer is not waited for once it is known to be gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest

from xpod.attention.hop import ExpertsUnavailable, Hop
from xpod.common.experts import ExpertDirectory
from xpod_policy import expert_calls, hedging
from xpod_policy.holdings import to_bitmap
from xpod_policy.membership import Change, Member
from xpod_proto import ExpertCall, ExpertReply, Holdings, Message, Tensor, subjects
from xpod_runtime.compute import ComputeThread
from xpod_runtime.errors import Disconnected
from xpod_runtime.line import BusLine
from xpod_runtime.local_bus import LocalBus, LocalFabric
from xpod_runtime.testing import LIMIT, Recorder

EXPERTS, LAYER = 4, 0
ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)
CHOSEN = np.array([[0, 1], [2, 3], [1, 0]])
SHARD = Member("expert-0", "expert", "one", 1, "host", "", "up", 0.0, 0.0, {})


async def answer(message: Message) -> Message:
    """Each pair's output is its row, plus its expert's number."""
    assert isinstance(message, ExpertCall)
    rows = message.rows.numpy()[message.row_of.numpy()] + message.expert_of.numpy()[:, None]
    return ExpertReply(Tensor.of(rows.astype(np.float32)))


async def silence(message: Message) -> Message:
    await asyncio.Event().wait()
    raise AssertionError


class Bench:
    """A hop and shards that are only handlers."""

    def __init__(self) -> None:
        self.fabric = LocalFabric()
        self.bus = LocalBus(self.fabric, "attention")
        self.directory = ExpertDirectory(EXPERTS, (LAYER,), lambda name: True)
        self.asked = Recorder()

    async def shard(self, name: str, *experts: int, answers: bool = True) -> None:
        async def handler(message: Message) -> Message | None:
            await self.asked(message)
            return await (answer if answers else silence)(message)

        bus = LocalBus(self.fabric, name)
        await bus.subscribe(subjects.calls("pod", name), handler)
        await self.holds(name, *experts)

    async def forgetful(self, calls: int, *names: str, after: int = 0) -> None:
        """Shards that hold everything; of what they get together, `calls` after the first few are never answered."""
        numbers = count()

        async def handler(message: Message) -> Message:
            await self.asked(message)
            if after <= next(numbers) < after + calls:
                await asyncio.Event().wait()
            return await answer(message)

        for name in names:
            await LocalBus(self.fabric, name).subscribe(subjects.calls("pod", name), handler)
            await self.holds(name, *range(EXPERTS))

    def cut_off(self, calls: int) -> None:
        """The connection is lost under the next so many."""
        left, request = [calls], self.bus.request

        async def cut(subject: str, message: Message, *, timeout: float) -> Message:
            if left[0] > 0:
                left[0] -= 1
                raise Disconnected("the connection was lost")
            return await request(subject, message, timeout=timeout)

        self.bus.request = cut  # type: ignore[method-assign]

    async def holds(self, name: str, *experts: int, incarnation: str = "one") -> None:
        layers = {LAYER: to_bitmap(experts, EXPERTS)}
        await self.directory.on_holdings(Holdings(name, incarnation, 1, layers))

    async def exchange(self, **options: float) -> np.ndarray:
        """What the shards make of the rows."""
        return await self.run(lambda hop: hop.experts(LAYER, ROWS, CHOSEN), **options)

    async def run(self, ask: Callable[[Hop], np.ndarray], **options: float) -> np.ndarray:
        """With a hop; as always, on the computing thread."""
        compute = ComputeThread()
        hop = Hop(BusLine(self.bus), "pod", self.directory, "fp32", compute, **options)
        try:
            return await compute.run(ask, hop)
        finally:
            hop.close()
            await compute.close()


def expected() -> np.ndarray:
    return (ROWS[:, None, :] + CHOSEN[:, :, None]).astype(np.float32)


async def test_rows_come_back_in_their_slots() -> None:
    bench = Bench()
    await bench.shard("expert-0", 0, 2)
    await bench.shard("expert-1", 1, 3)
    out = await bench.exchange()
    assert np.array_equal(out, expected())
    assert len(bench.asked.messages) == 2, "one call a shard"


async def test_what_is_abandoned_is_not_what_another_waits_for() -> None:
    """A step that fails, computed while another one waits, must not take that one's answers away."""
    bench = Bench()
    await bench.shard("expert-0", *range(EXPERTS))

    def two(hop: Hop) -> np.ndarray:
        one, other = hop.begin(LAYER, ROWS, CHOSEN), hop.begin(LAYER, ROWS + 1, CHOSEN)
        hop.abandon([other])
        return hop.finish(one)

    assert np.array_equal(await bench.run(two), expected())


async def test_of_a_question_that_cannot_be_asked_nothing_is_under_way() -> None:
    """What was posted before would be asked again for ever, for nobody."""
    bench = Bench()
    await bench.shard("expert-0", 0, 1)
    await bench.shard("expert-1", 2, 3)

    def fails(hop: Hop) -> np.ndarray:
        post, posted = hop._line.post, count()

        def once(*call: Any) -> int:
            if next(posted):
                raise Disconnected("the connection was lost")
            return post(*call)

        hop._line.post = once  # type: ignore[method-assign]
        with pytest.raises(Disconnected):
            hop.begin(LAYER, ROWS, CHOSEN)
        return np.array(list(hop._book.under_way))

    assert (await bench.run(fails)).size == 0


async def test_a_shard_that_began_anew_is_not_waited_for() -> None:
    bench = Bench()
    await bench.shard("expert-0", 0, 1, 2, 3, answers=False)
    waiting = asyncio.create_task(bench.exchange(call_timeout=3600))
    await bench.asked.wait()
    await bench.shard("expert-1", 0, 1, 2, 3)
    await bench.directory.on_member(Change(replace(SHARD, incarnation="two"), "up", "hello", reborn=True))
    async with asyncio.timeout(LIMIT):
        assert np.array_equal(await waiting, expected())


async def test_a_shard_lost_while_nothing_was_asked_is_trusted_once_it_is_back() -> None:
    bench = Bench()
    await bench.shard("expert-0", 0, 1, 2, 3)
    compute = ComputeThread()
    hop = Hop(BusLine(bench.bus), "pod", bench.directory, "fp32", compute)
    await bench.directory.on_member(Change(replace(SHARD, incarnation="two"), "up", "hello", reborn=True))
    await bench.holds("expert-0", 0, 1, 2, 3, incarnation="two")
    assert np.array_equal(await compute.run(hop.experts, LAYER, ROWS, CHOSEN), expected())
    assert hop.retries == 0
    hop.close()
    await compute.close()


async def test_experts_that_nobody_holds_are_waited_for_and_then_missed() -> None:
    bench = Bench()
    await bench.shard("expert-0", 0, 1, 2)
    with pytest.raises(ExpertsUnavailable, match="expert 3 of layer 0"):
        await bench.exchange(patience=0.01)
    waiting = asyncio.create_task(bench.exchange(patience=3600))
    await bench.shard("expert-1", 3)
    async with asyncio.timeout(LIMIT):
        assert np.array_equal(await waiting, expected())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hedging, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(hedging, "LEAST_SECONDS", 0.01)


class Hedged:
    """A hop over two shards that hold everything; the first answers once it is `released`."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.released = asyncio.Event()
        self.compute = ComputeThread()

    async def start(self) -> None:
        bus = LocalBus(self.bench.fabric, "expert-0")
        await bus.subscribe(subjects.calls("pod", "expert-0"), self._slowly)
        await self.bench.holds("expert-0", 0, 1, 2, 3)
        await self.bench.shard("expert-1", 0, 1, 2, 3)
        self.hop = Hop(BusLine(self.bench.bus), "pod", self.bench.directory, "fp32", self.compute)

    async def _slowly(self, message: Message) -> Message:
        await self.released.wait()
        return await answer(message)

    async def exchange(self) -> None:
        async with asyncio.timeout(LIMIT):
            assert np.array_equal(await self.compute.run(self.hop.experts, LAYER, ROWS, CHOSEN), expected())

    async def end(self) -> None:
        self.hop.close()
        await self.compute.close()


@pytest.mark.usefixtures("impatient")
async def test_a_silent_shard_s_pairs_are_asked_of_another_and_it_is_left_alone() -> None:
    hedged = Hedged()
    await hedged.start()
    await hedged.exchange()
    assert (hedged.hop.hedges, hedged.hop.retries) == (1, 0)
    asked = hedged.hop.calls
    await hedged.exchange()
    assert hedged.hop.calls == asked + 1, "the silent one is not asked again"
    await hedged.end()


@pytest.mark.usefixtures("impatient")
async def test_a_shard_that_answers_late_is_asked_again() -> None:
    hedged = Hedged()
    await hedged.start()
    await hedged.exchange()
    hedged.released.set()
    asked = hedged.hop.calls
    async with asyncio.timeout(LIMIT):
        while hedged.hop.calls - asked != 2:  # its late answer arrives with one of the next exchanges
            asked = hedged.hop.calls
            await hedged.exchange()
    await hedged.end()


@pytest.mark.usefixtures("impatient")
async def test_a_shard_lost_after_its_hedge_was_asked_costs_nothing() -> None:
    hedged = Hedged()
    await hedged.start()
    await hedged.exchange()
    await hedged.bench.directory.on_member(Change(replace(SHARD, state="down"), "up", "gone"))
    hedged.bench.directory._trusted = lambda name: name != "expert-0"
    await hedged.exchange()
    assert hedged.hop.retries == 0
    await hedged.end()


@pytest.mark.usefixtures("impatient")
async def test_a_hedge_may_be_lost_after_whom_it_was_to_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expert_calls, "ALONE_SECONDS", 0.05)
    bench = Bench()
    await bench.forgetful(1, "expert-0")
    await bench.forgetful(1, "expert-1", after=1)  # the hedge
    exchange = asyncio.create_task(bench.exchange(call_timeout=3600))
    async with asyncio.timeout(LIMIT):
        await bench.asked.wait(3)
        bench.directory._trusted = lambda name: name != "expert-0"
        await bench.directory.on_member(Change(replace(SHARD, state="down"), "up", "gone"))
        assert np.array_equal(await exchange, expected())


@pytest.mark.usefixtures("impatient")
async def test_where_only_a_slow_shard_is_left_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was asked may have been lost, not late."""
    monkeypatch.setattr(expert_calls, "ALONE_SECONDS", 3600)
    bench, compute = Bench(), ComputeThread()
    await bench.forgetful(1, "expert-0")
    await bench.forgetful(1, "expert-1", after=2)  # a call and a hedge are answered
    hop = Hop(BusLine(bench.bus), "pod", bench.directory, "fp32", compute, call_timeout=3600)
    async with asyncio.timeout(LIMIT):
        for _ in range(2):
            assert np.array_equal(await compute.run(hop.experts, LAYER, ROWS, CHOSEN), expected())
    assert hop.hedges == 2
    hop.close()
    await compute.close()


async def test_a_shard_that_serves_alone_is_asked_again_in_time(
    impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only once the next multiple of a patience is over."""
    monkeypatch.setattr(expert_calls, "ALONE_SECONDS", 0.06)
    monkeypatch.setattr(expert_calls, "PATIENCE_GROWS", 100_000)
    bench = Bench()
    await bench.forgetful(1, "expert-0")
    await bench.shard("expert-1", 0)
    async with asyncio.timeout(LIMIT):
        assert np.array_equal(await bench.exchange(call_timeout=3600), expected())


async def test_where_nobody_else_holds_an_expert_nothing_is_hedged(impatient: None) -> None:
    bench = Bench()
    await bench.shard("expert-0", 0, 1, 2, 3)
    compute = ComputeThread()
    hop = Hop(BusLine(bench.bus), "pod", bench.directory, "fp32", compute)
    assert np.array_equal(await compute.run(hop.experts, LAYER, ROWS, CHOSEN), expected())
    assert hop.hedges == 0
    hop.close()
    await compute.close()


@pytest.mark.usefixtures("impatient")
async def test_a_shard_that_serves_alone_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer was lost with a NATS node."""
    monkeypatch.setattr(expert_calls, "ALONE_SECONDS", 0.05)
    bench = Bench()
    await bench.forgetful(1, "expert-0")

    async with asyncio.timeout(LIMIT):
        assert np.array_equal(await bench.exchange(call_timeout=3600), expected())


@pytest.mark.usefixtures("impatient")
async def test_where_a_call_and_its_hedge_are_both_lost_whoever_serves_is_asked_anew() -> None:
    bench = Bench()
    await bench.forgetful(2, "expert-0", "expert-1")

    compute = ComputeThread()
    hop = Hop(BusLine(bench.bus), "pod", bench.directory, "fp32", compute, call_timeout=3600)
    async with asyncio.timeout(LIMIT):
        one_expert = np.zeros((3, 2), np.int64)
        out = await compute.run(hop.experts, LAYER, ROWS, one_expert)
    assert np.array_equal(out, (ROWS[:, None, :] + one_expert[:, :, None]).astype(np.float32))
    assert hop.retries == 1
    hop.close()
    await compute.close()


@pytest.mark.usefixtures("impatient")
async def test_calls_that_are_lost_together_are_each_waited_for_as_one_alone() -> None:
    """A NATS node took all of a layer's calls with it: that was one fault, whatever the number of calls."""
    bench, patience = Bench(), list[float]()
    await bench.forgetful(4, "expert-0", "expert-1")  # two calls, and a hedge of each

    compute = ComputeThread()
    hop = Hop(BusLine(bench.bus), "pod", bench.directory, "fp32", compute, call_timeout=3600)
    post = hop._post

    def noted(*args: Any) -> int:
        ticket = post(*args)
        call = hop._book.under_way[ticket]
        patience.append(call.hedge_at - call.posted)
        return ticket

    hop._post = noted  # type: ignore[method-assign]
    async with asyncio.timeout(LIMIT):
        assert np.array_equal(await compute.run(hop.experts, LAYER, ROWS, CHOSEN), expected())
    assert hop.retries == 2
    assert max(patience) <= 4.01 * min(patience)
    hop.close()
    await compute.close()


@pytest.mark.usefixtures("impatient")
async def test_whoever_was_asked_over_a_lost_connection_may_be_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was our connection. Else nobody would be left to hedge what is lost next."""
    bench = Bench()
    await bench.forgetful(2, "expert-0", "expert-1")
    bench.cut_off(1)
    compute = ComputeThread()
    hop = Hop(BusLine(bench.bus), "pod", bench.directory, "fp32", compute, call_timeout=3600)
    monkeypatch.setattr(expert_calls, "ALONE_SECONDS", 3600)
    async with asyncio.timeout(LIMIT):
        assert np.array_equal(await compute.run(hop.experts, LAYER, ROWS, CHOSEN), expected())
    assert hop.hedges >= 1
    hop.close()
    await compute.close()


async def test_behind_a_lost_connection_little_time_is_given_to_what_is_asked_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long calls of this size take otherwise: whoever is asked may not have reconnected yet."""
    bench = Bench()
    await bench.forgetful(2, "expert-0", "expert-1")
    bench.cut_off(2)
    monkeypatch.setattr(hedging, "FIRST_SECONDS", 3600)
    monkeypatch.setattr(expert_calls, "CUT_OFF_PATIENCE", 0.02)
    compute = ComputeThread()
    hop = Hop(BusLine(bench.bus), "pod", bench.directory, "fp32", compute, call_timeout=3600)
    async with asyncio.timeout(LIMIT):
        assert np.array_equal(await compute.run(hop.experts, LAYER, ROWS, CHOSEN), expected())
    assert hop.hedges >= 1
    hop.close()
    await compute.close()


@pytest.mark.usefixtures("impatient")
async def test_an_expert_that_one_shard_alone_holds_keeps_no_others_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As while shards load what a placement gave them."""
    monkeypatch.setattr(expert_calls, "ALONE_SECONDS", 3600)
    bench = Bench()
    await bench.shard("expert-0", 0, 1, 2, 3, answers=False)
    await bench.shard("expert-1", 0, 1, 2)
    compute = ComputeThread()
    hop = Hop(BusLine(bench.bus), "pod", bench.directory, "fp32", compute, call_timeout=3600)
    chosen = np.array([[0, 1], [2, 0], [1, 0]])
    async with asyncio.timeout(LIMIT):
        out = await compute.run(hop.experts, LAYER, ROWS, chosen)
    assert np.array_equal(out, (ROWS[:, None, :] + chosen[:, :, None]).astype(np.float32))
    hop.close()
    await compute.close()
