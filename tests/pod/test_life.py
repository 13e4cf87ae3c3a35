"""Leaving early, dying, draining: slots come back, errors are explicit, nothing hangs."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from pod.harness import Shape, first, greedy, running_pod, until_empty, worker
from xpod.router import engine as router_engine
from xpod.router.api.engine_protocol import Overloaded, SessionError
from xpod_policy.blocks import BLOCK_TOKENS
from xpod_proto import Down, Message, ReplayTokens, subjects
from xpod_runtime.errors import NoResponders
from xpod_runtime.fault_plan import Fault, FaultPlan, Rule
from xpod_runtime.local_bus import LocalBus, LocalFabric
from xpod_runtime.testing import LIMIT

PROMPT = list(range(40))


async def test_cancel_frees_slot_and_blocks_within_a_second(nats: str, oracle_dirs: dict[str, Path]) -> None:
    async with running_pod(nats, oracle_dirs["plain"]) as pod:
        session = await pod.router.engine.open(PROMPT, greedy(1500, ignore_eos=True))
        await first(session, 3)
        decode = worker(pod, "decode-0")
        assert decode.engine.sequences
        await session.cancel()
        await until_empty(decode, 1.0)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_hangs_up_frees_slot_and_blocks_within_a_second(
    nats: str, oracle_dirs: dict[str, Path], stream: bool
) -> None:
    body = {"prompt": PROMPT, "max_tokens": 1500, "temperature": 0, "ignore_eos": True, "stream": stream}
    async with running_pod(nats, oracle_dirs["plain"]) as pod, httpx.AsyncClient() as client:
        request = asyncio.create_task(client.post(f"{pod.url()}/v1/completions", json=body, timeout=60))
        decode = worker(pod, "decode-0")
        async with asyncio.timeout(10):
            while not decode.engine.sequences:
                await pod.router.view.changed(0.05)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        await until_empty(decode, 1.0)


async def test_cancel_before_the_first_token_frees_the_prefill_worker(
    nats: str, oracle_dirs: dict[str, Path]
) -> None:
    async with running_pod(nats, oracle_dirs["plain"], max_num_batched_tokens=8) as pod:
        session = await pod.router.engine.open([i % 256 for i in range(1200)], greedy(8))
        prefill = worker(pod, "prefill-0")
        async with asyncio.timeout(10):
            while not prefill.engine.sequences:
                await pod.router.view.changed(0.05)
        await session.cancel()
        await until_empty(prefill, 1.0)


@pytest.mark.parametrize("kind", ["decode", "prefill", "expert", "mempool"])
async def test_a_session_survives_a_crash(nats: str, oracle_dirs: dict[str, Path], kind: str) -> None:
    shape = Shape(decode=2, prefill=2, expert=2, mempool=2)
    spec = greedy(400, ignore_eos=True)
    async with running_pod(nats, oracle_dirs["plain"], shape) as pod:
        whole = await pod.generate(PROMPT, spec)
        session = await pod.router.engine.open(PROMPT, spec)
        begun = await first(session, 5)
        used = {
            name for name in pod.members if name.startswith("decode") and worker(pod, name).engine.sequences
        }
        victim = next(iter(used)) if kind == "decode" else f"{kind}-0"
        await pod.crash(victim)
        async with asyncio.timeout(60):
            rest = [output async for output in session]
        assert begun + rest == whole


async def test_a_crash_costs_a_block_and_what_was_in_flight(nats: str, oracle_dirs: dict[str, Path]) -> None:
    async with running_pod(nats, oracle_dirs["plain"], Shape(decode=2, mempool=2)) as pod:
        await pod.generate(PROMPT, greedy(40, ignore_eos=True))
        assert [decode.load()["recomputed"] for decode in pod.of("decode")] == [0, 0]
        session = await pod.router.engine.open(PROMPT, greedy(400, ignore_eos=True))
        await first(session, 100)
        (victim,) = (f"decode-{i}" for i in range(2) if worker(pod, f"decode-{i}").engine.sequences)
        await pod.crash(victim)
        async with asyncio.timeout(60):
            assert [output.index async for output in session][-1] == 399
        (survivor,) = pod.of("decode")
        load = survivor.load()
        assert load["reopened"] == 1
        assert 0 <= int(load["recomputed"]) <= 2 * BLOCK_TOKENS


async def test_without_workers_a_session_ends_with_an_error(nats: str, oracle_dirs: dict[str, Path]) -> None:
    async with running_pod(nats, oracle_dirs["plain"], place_timeout=0.5, silence_timeout=0.5) as pod:
        session = await pod.router.engine.open(PROMPT, greedy(1500, ignore_eos=True))
        await first(session, 3)
        await pod.crash("decode-0")
        with pytest.raises(SessionError) as error:
            async with asyncio.timeout(20):
                [output async for output in session]
        assert error.value.code == "no_worker"


@pytest.mark.parametrize(("workers", "recoveries"), [(1, 0), (2, 1)])
async def test_a_draining_decode_worker_hands_over_what_it_has_or_finishes_it_where_nobody_stays(
    nats: str, oracle_dirs: dict[str, Path], workers: int, recoveries: int
) -> None:
    async with running_pod(nats, oracle_dirs["plain"], Shape(decode=workers), drain=60) as pod:
        spec = greedy(400, ignore_eos=True)
        expected = await pod.generate(PROMPT, spec)
        session = await pod.router.engine.open(PROMPT, spec)
        begun = await first(session, 2)
        busy = next(n for n in pod.members if n.startswith("decode") and worker(pod, n).engine.sequences)
        stopping = asyncio.create_task(pod.members[busy].stop("drained"))
        rest = [output async for output in session]
        await stopping
        del pod.members[busy]
        assert begun + rest == expected
        assert session.recoveries == recoveries


async def test_when_all_decode_workers_drain_they_finish_what_they_have(
    nats: str, oracle_dirs: dict[str, Path]
) -> None:
    async with running_pod(nats, oracle_dirs["plain"], Shape(decode=2), drain=60) as pod:
        spec = greedy(400, ignore_eos=True)
        expected = await pod.generate(PROMPT, spec)
        sessions = [await pod.router.engine.open(PROMPT, spec) for _ in range(4)]
        begun = [await first(session, 2) for session in sessions]
        stopping = [asyncio.create_task(pod.members[f"decode-{i}"].stop("drained")) for i in range(2)]
        rests = [[output async for output in session] for session in sessions]
        await asyncio.gather(*stopping)
        for i in range(2):
            del pod.members[f"decode-{i}"]
        assert [first + rest for first, rest in zip(begun, rests, strict=True)] == [expected] * 4
        assert [session.recoveries for session in sessions] == [0] * 4


@pytest.mark.parametrize("memory", [1 << 20, 0])  # 0: all of it on disk
async def test_a_prompt_seen_before_is_cached(
    nats: str, oracle_dirs: dict[str, Path], tmp_path: Path, memory: int
) -> None:
    options = {"mempool_bytes": memory, "data": tmp_path}
    async with running_pod(nats, oracle_dirs["plain"], Shape(mempool=2), **options) as pod:
        spec = greedy(20, ignore_eos=True)
        cold = await pod.router.engine.open(PROMPT, spec)
        first_answer = [output async for output in cold]
        warm = await pod.router.engine.open(PROMPT, spec)
        assert [output async for output in warm] == first_answer
        assert (cold.cached_tokens, warm.cached_tokens) == (0, len(PROMPT) - 1)


async def test_a_full_pod_lets_sessions_wait(nats: str, oracle_dirs: dict[str, Path]) -> None:
    """More sessions than slots: nobody is refused, and who waits longer than for a missing worker still gets in."""
    timeout = 0.5  # a worker that is late for a moment is still there
    async with running_pod(nats, oracle_dirs["plain"], max_num_seqs=1, place_timeout=timeout) as pod:
        spec, began = greedy(60, ignore_eos=True), time.monotonic()
        answers = await asyncio.gather(*(pod.generate(PROMPT[:n], spec) for n in range(1, 9)))
        assert [len(answer) for answer in answers] == [60] * 8
        assert time.monotonic() - began > timeout, "nobody waited"


async def test_a_queue_has_an_end(nats: str, oracle_dirs: dict[str, Path]) -> None:
    async with running_pod(nats, oracle_dirs["plain"], max_num_seqs=1, queue_timeout=0.3) as pod:
        first_in_line = await pod.router.engine.open(PROMPT, greedy(1500, ignore_eos=True))
        await first(first_in_line, 2)
        with pytest.raises(SessionError) as error:
            await pod.generate(PROMPT[:5], greedy(8, ignore_eos=True))
        assert error.value.code == "queue_timeout"
        await first_in_line.cancel()


async def test_who_finds_no_room_is_told_when_to_come_again(
    nats: str, oracle_dirs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it takes until one of those that are there ends, as they ended lately."""
    async with running_pod(nats, oracle_dirs["plain"], max_sessions=1) as pod:
        engine = pod.router.engine
        for _ in range(3):
            await pod.generate(PROMPT, greedy(2))
        held = await engine.open(PROMPT, greedy(1500, ignore_eos=True))
        await first(held, 1)
        clock = router_engine.now() + 15
        monkeypatch.setattr(router_engine, "now", lambda: clock)
        with pytest.raises(Overloaded) as refused:
            await engine.open(PROMPT, greedy(2))
        assert (
            5 <= refused.value.retry_after < 10
        )  # three ended in the 15 s and more that the router is there
        await held.cancel()


async def test_who_is_down_is_not_waited_for(nats: str, oracle_dirs: dict[str, Path]) -> None:
    async with running_pod(nats, oracle_dirs["plain"]) as pod:
        router = pod.router
        hung = pod.members["decode-0"]
        asked = asyncio.Event()

        async def silence(message: Message) -> Message:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        deaf = await hung.data.subscribe(subjects.mailbox("test", "decode", "deaf"), silence)
        await hung.data.flush()
        router.view.table.hello(replace(router.view.table.members["decode-0"], name="deaf"))
        question = ReplayTokens("s", 0)
        asking = asyncio.create_task(
            router.view.request(router.data, "decode", "deaf", question, timeout=LIMIT)
        )
        await asked.wait()
        incarnation = router.view.table.members["deaf"].incarnation
        await hung.control.publish(subjects.down("test"), Down("deaf", incarnation, "killed"))
        async with asyncio.timeout(LIMIT / 2):
            with pytest.raises(NoResponders, match="deaf is down"):
                await asking
            with pytest.raises(NoResponders, match="deaf is down"):
                await router.view.request(router.data, "decode", "deaf", question, timeout=LIMIT)
        await deaf.unsubscribe()


async def test_a_prefill_worker_is_asked_when_its_last_word_was_lost(oracle_dirs: dict[str, Path]) -> None:
    """And nothing is computed again: the worker remembers that it is through."""
    fabric = LocalFabric()
    async with running_pod(fabric, oracle_dirs["plain"], silence_timeout=0.2) as pod:
        whole = await pod.generate(PROMPT, greedy(8))
        fabric.plan = FaultPlan([Rule(Fault.DROP, "test.v1.router.router-0", limit=1)])
        session = await pod.router.engine.open(PROMPT, greedy(8))
        async with asyncio.timeout(LIMIT):
            assert [output async for output in session] == whole
        assert (fabric.plan.rules[0].hits, session.recoveries) == (1, 0)


async def test_a_worker_that_reconnects_a_moment_later_is_not_lost(oracle_dirs: dict[str, Path]) -> None:
    """A NATS node died: the router is back first, and asks a worker that has no subscription yet."""
    fabric = LocalFabric()
    async with running_pod(fabric, oracle_dirs["plain"]) as pod:
        whole = await pod.generate(PROMPT, greedy(60, ignore_eos=True))
        session = await pod.router.engine.open(PROMPT, greedy(60, ignore_eos=True))
        begun = await first(session, 3)
        bus = pod.members["decode-0"].data
        assert isinstance(bus, LocalBus)
        bus.disconnect()
        pod.router.engine.reconnected()
        await pod.router.view.changed(LIMIT)
        bus.reconnect()
        assert begun + [output async for output in session] == whole
        assert session.recoveries == 0


async def test_a_session_that_is_over_is_freed_without_the_collector(
    oracle_dirs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of them would hold a router up for a second once the collector comes."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)  # idle workers call it
    async with running_pod(LocalFabric(), oracle_dirs["plain"], silence_timeout=0.2) as pod:
        sessions = pod.router.engine._sessions
        gc.disable()
        try:
            body = {"prompt": PROMPT, "max_tokens": 8, "stream": True}
            async with httpx.AsyncClient() as client:
                await client.post(f"{pod.url()}/v1/completions", json=body, timeout=LIMIT)
            (over,) = map(weakref.ref, sessions.values())
            sessions.clear()
            async with asyncio.timeout(LIMIT):
                while over() is not None:
                    await pod.router.view.changed(0.05)
        finally:
            gc.enable()
