"""A step that need not wait for the one that runs: it is computed while that one waits for its experts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import pytest

from pod.harness import LIMIT, greedy
from xpod.attention import engine
from xpod.attention.engine import Engine, Step
from xpod.attention.hop import Hop
from xpod.attention.sequence import Sequence
from xpod_model.attention_half import AttentionHalf
from xpod_model.checkpoint import Checkpoint
from xpod_model.kv import KVCache
from xpod_policy.batch import Batch
from xpod_policy.caching import Naming
from xpod_runtime.compute import ComputeThread

LONG, SHORT = 20, 5


class Question(NamedTuple):
    rows: np.ndarray[Any, Any]
    experts: np.ndarray[Any, Any]


class HeldHop:
    """Experts that return what they get: for LONG rows once `go` is set, for SHORT ones what `short` says."""

    def __init__(self, compute: ComputeThread) -> None:
        self.go, self.waits = threading.Event(), asyncio.Event()
        self.short: Callable[[], None] = lambda: None
        self.abandoned: list[int] = []
        self._compute, self._nudged = compute, threading.Event()
        self._loop = asyncio.get_running_loop()
        compute.nudge = self._nudged.set

    def begin(self, layer: int, rows: np.ndarray[Any, Any], experts: np.ndarray[Any, Any]) -> Question:
        return Question(rows, experts)

    def finish(self, question: Question) -> np.ndarray[Any, Any]:
        if len(question.rows) == SHORT:
            self.short()
        while len(question.rows) == LONG and not self.go.is_set():
            self._loop.call_soon_threadsafe(self.waits.set)
            self._nudged.wait()
            self._nudged.clear()
            self._compute.breathe()
        return np.repeat(question.rows[:, None, :], question.experts.shape[1], axis=1)

    def release(self) -> None:
        self.go.set()
        self._nudged.set()

    def abandon(self, questions: list[Question]) -> None:
        self.abandoned += [len(question.rows) for question in questions]


class Bench:
    def __init__(self, half: AttentionHalf, compute: ComputeThread) -> None:
        self.half, self.hop = half, HeldHop(compute)
        self.engine = Engine(
            half,
            KVCache(half.kv_spec(), 32),
            Batch(8, 64, 32),
            cast(Hop, self.hop),
            compute,
            eos=(),
        )

    async def joins(self, tenant: str, number: int, count: int) -> Sequence:
        prompt = [number, *range(count - 1)]
        sequence = Sequence(f"{tenant}{number}", 0, "router-0", prompt, [], greedy(4), Naming(b"root"))
        sequence.tenant = tenant
        self.engine.open(sequence, count)
        assert await self.engine.join(sequence, [], {})
        return sequence

    async def held(self) -> asyncio.Task[Step | None]:
        """A step of `loud`, which had one before; it waits for its experts."""
        self.hop.go.set()
        await self.joins("loud", 1, LONG)
        await self.engine.step()
        self.engine.close("loud1")
        self.hop.go.clear()
        self.hop.waits.clear()
        await self.joins("loud", 2, LONG)
        stepping = asyncio.create_task(self.engine.step())
        await self.hop.waits.wait()
        return stepping


@asynccontextmanager
async def bench(oracle_dirs: dict[str, Path]) -> AsyncIterator[Bench]:
    half = AttentionHalf.load(Checkpoint.open(oracle_dirs["plain"]), "fp32")
    compute = ComputeThread()
    made = Bench(half, compute)
    try:
        async with asyncio.timeout(LIMIT):
            yield made
    finally:
        made.hop.release()
        await compute.close()


def said(step: Step | None) -> list[tuple[str, int]]:
    assert step is not None
    return [(sequence.id, event.token) for sequence, event in step.said]


async def alone(oracle_dirs: dict[str, Path], tenant: str, number: int, count: int) -> list[tuple[str, int]]:
    async with bench(oracle_dirs) as one:
        one.hop.go.set()
        await one.joins(tenant, number, count)
        return said(await one.engine.step())


async def test_two_steps_at_once_say_what_each_says_alone(oracle_dirs: dict[str, Path]) -> None:
    async with bench(oracle_dirs) as both:
        assert await both.engine.step_between() is None, "nothing runs"
        long = await both.held()
        assert await both.engine.step_between() is None, "nobody came"
        await both.joins("quiet", 3, SHORT)
        short = await both.engine.step_between()
        assert said(short) == await alone(oracle_dirs, "quiet", 3, SHORT)
        assert not long.done()
        both.hop.release()
        assert said(await long) == await alone(oracle_dirs, "loud", 2, LONG)


async def test_a_step_between_that_fails_leaves_the_other_alone(oracle_dirs: dict[str, Path]) -> None:
    def fails() -> None:
        raise ConnectionError("no experts")

    async with bench(oracle_dirs) as both:
        long = await both.held()
        both.hop.short = fails
        await both.joins("quiet", 3, SHORT)
        with pytest.raises(ConnectionError):
            await both.engine.step_between()
        assert both.hop.abandoned == [SHORT]
        both.hop.release()
        assert said(await long) == await alone(oracle_dirs, "loud", 2, LONG)


async def test_no_other_step_begins_while_one_runs_between(oracle_dirs: dict[str, Path]) -> None:
    """It would be computed each time that the one between waits for its experts: a whole step a layer."""
    began, over = threading.Event(), threading.Event()

    def waits() -> None:
        began.set()
        over.wait()

    async with bench(oracle_dirs) as both:
        long = await both.held()
        both.hop.short = waits
        await both.joins("quiet", 3, SHORT)
        between = asyncio.create_task(both.engine.step_between())
        await asyncio.to_thread(began.wait)
        await both.joins("loud", 4, LONG)
        following = asyncio.create_task(both.engine.step())
        await asyncio.sleep(0)
        steps = set(both.engine.batch._under_way)
        over.set()
        assert steps == {"loud2", "quiet3"}
        assert said(await between)
        both.hop.release()
        assert said(await long)
        assert said(await following)


async def test_what_a_step_between_takes_is_not_the_others_time(
    oracle_dirs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def passes() -> None:
        clock[0] += 7.0 / layers

    async with bench(oracle_dirs) as both:
        layers = both.half.config.layers
        long = await both.held()
        both.hop.short = passes
        await both.joins("quiet", 3, SHORT)
        short = await both.engine.step_between()
        clock[0] += 3.0
        both.hop.release()
        step = await long
    assert step is not None
    assert short is not None
    assert (step.tokens, short.tokens) == (LONG, SHORT)
    assert (step.seconds, short.seconds) == (pytest.approx(3.0), pytest.approx(7.0))
