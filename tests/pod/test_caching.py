"""What a later request finds of an earlier one, by the rung of the ladder; and that it changes no bit."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from pod.harness import Pod, Shape, greedy, running_pod, worker
from xpod.mempool.node import MemPool
from xpod.prefill.worker import Prefill
from xpod.router.api.engine_protocol import Affinity, Output
from xpod_policy.caching import Caching
from xpod_runtime.local_bus import LocalFabric

PROMPT, ANSWER, MORE = list(range(1, 101)), 40, list(range(200, 205))


async def said(pod: Pod, prompt: list[int], tokens: int = ANSWER) -> tuple[list[Output], int]:
    """The answer, and how many of the prompt's tokens nobody had to compute for it."""
    session = await pod.router.engine.open(prompt, greedy(tokens, ignore_eos=True, logprobs=2))
    outputs = [output async for output in session]
    return outputs, session.cached_tokens


def prefill(pod: Pod, name: str = "prefill-0") -> Prefill:
    member = pod.members[name]
    assert isinstance(member, Prefill)
    return member


async def stored(pod: Pod, blocks: int) -> None:
    """Returns once the MemPool node has so many."""
    (node,) = pod.of("mempool")
    async with asyncio.timeout(20):
        while int(node.load()["blocks"]) < blocks:
            await pod.router.view.changed(0.02)


# of a prompt of 100 tokens, an answer of 40 and 5 more tokens: the whole blocks that others find
FOUND = {Caching.BASIC: 0, Caching.PREFILL: 96, Caching.DECODE: 96, Caching.FULL: 128}


@pytest.mark.parametrize("keep_bytes", [0, 16 << 20])
@pytest.mark.parametrize("caching", Caching)
async def test_what_a_second_turn_finds(
    oracle_dirs: dict[str, Path], caching: Caching, keep_bytes: int, tmp_path: Path
) -> None:
    options = {"caching": caching, "keep_bytes": keep_bytes, "data": tmp_path}
    async with running_pod(LocalFabric(), oracle_dirs["plain"], Shape(), **options) as pod:
        first, cached = await said(pod, PROMPT)
        assert cached == 0
        await stored(pod, 9)  # of 139 tokens, and the prompt's tail
        turn = [*PROMPT, *(output.token for output in first), *MORE]
        second, cached = await said(pod, turn)
        assert cached == FOUND[caching]
        again, cached = await said(pod, turn)
        assert again == second
        assert cached == (0 if caching is Caching.BASIC else len(turn) - 1)
        for name in ("prefill-0", "decode-0"):
            kept = worker(pod, name).engine.tables.kept
            keeps = caching.prefill_keeps if name == "prefill-0" else caching.decode_keeps
            assert (kept > 0) == (keeps and keep_bytes > 0)


async def test_one_prefix_asked_for_at_once_is_computed_once(
    oracle_dirs: dict[str, Path], tmp_path: Path
) -> None:
    """Whoever comes while another computes what it begins with waits for that."""
    turns = [[*PROMPT, 150 + number, *MORE] for number in range(6)]
    async with running_pod(LocalFabric(), oracle_dirs["plain"], Shape(), data=tmp_path) as pod:
        outcomes = await asyncio.gather(*(said(pod, turn, 4) for turn in turns))
        assert sorted(cached for _, cached in outcomes) == [0] + [96] * (len(turns) - 1)
    async with running_pod(
        LocalFabric(), oracle_dirs["plain"], Shape(), caching="basic", data=tmp_path
    ) as alone:
        for turn, (outputs, _) in zip(turns, outcomes, strict=True):
            assert outputs == (await said(alone, turn, 4))[0]


async def test_what_is_kept_by_the_worker_and_lost_by_the_pool_is_stored_again(
    oracle_dirs: dict[str, Path], tmp_path: Path
) -> None:
    """Or the worker that decodes would have to compute the whole prompt."""
    async with running_pod(LocalFabric(), oracle_dirs["plain"], Shape(decode=2), data=tmp_path) as pod:
        first, _ = await said(pod, PROMPT, 2)
        await pod.empty_mempool()
        again, cached = await said(pod, PROMPT, 2)
        assert (again, cached) == (first, 96)
        assert [worker(pod, name).load()["recomputed"] for name in ("decode-0", "decode-1")] == [0, 0]


async def test_room_for_sequences_comes_before_what_is_kept(
    oracle_dirs: dict[str, Path], tmp_path: Path
) -> None:
    """A cache that one long prompt fills serves many of them, one after another."""
    options = {"kv_bytes": 1 << 17, "keep_bytes": 1 << 30, "data": tmp_path}
    async with running_pod(LocalFabric(), oracle_dirs["plain"], Shape(), **options) as pod:
        blocks = worker(pod, "prefill-0").engine.batch.total_blocks
        length = min(16 * blocks - 20, 200)
        prompts = [[(number + place) % 250 for place in range(length)] for number in (1, 20, 40)]
        for prompt in [*prompts, *prompts]:
            outputs, _ = await said(pod, prompt, 4)
            assert len(outputs) == 4
        engine = worker(pod, "prefill-0").engine
        assert engine.tables.kept <= blocks
        assert engine.batch.reserved_blocks == 0


async def test_a_cancelled_prompt_does_not_hold_up_those_behind_it(
    oracle_dirs: dict[str, Path], tmp_path: Path
) -> None:
    options = {"max_num_batched_tokens": 8, "data": tmp_path}
    async with running_pod(LocalFabric(), oracle_dirs["plain"], Shape(), **options) as pod:
        other = Affinity(tenant="another, or the second would wait in the router")
        first = await pod.router.engine.open([*PROMPT, *PROMPT], greedy(4), affinity=other)
        second = asyncio.create_task(said(pod, [*PROMPT, *PROMPT, *MORE], 4))
        async with asyncio.timeout(20):
            while not prefill(pod)._waiting:
                await pod.router.view.changed(0.01)
        await first.cancel()
        outputs, _ = await asyncio.wait_for(second, 20)
        assert len(outputs) == 4


async def test_prompts_are_measured_before_the_first_one(
    oracle_dirs: dict[str, Path], tmp_path: Path
) -> None:
    async with running_pod(LocalFabric(), oracle_dirs["plain"], Shape(), probe=True, data=tmp_path) as pod:
        async with asyncio.timeout(20):
            while "queued_seconds" not in prefill(pod).load():
                await pod.router.view.changed(0.05)
        costs = prefill(pod).costs.prefill
        assert costs is not None
        assert costs.seconds(512) >= costs.seconds(16) > 0
        assert (await said(pod, PROMPT, 2))[1] == 0


async def test_evictions_and_a_lost_node_change_no_bit(oracle_dirs: dict[str, Path], tmp_path: Path) -> None:
    """Little room everywhere, prefixes that many share, and a MemPool node that dies in the middle and comes back."""
    draw = random.Random(5)
    stems = [[draw.randrange(250) for _ in range(90)] for _ in range(3)]
    prompts = [
        [*draw.choice(stems)[: draw.choice([20, 48, 90])], *(draw.randrange(250) for _ in range(9))]
        for _ in range(36)
    ]
    model, fabric = oracle_dirs["plain"], LocalFabric(delay=0.001)
    options: dict[str, object] = {"mempool_bytes": 40 << 10, "mempool_disk_bytes": 0, "data": tmp_path}
    small = {**options, "kv_bytes": 1 << 18, "keep_bytes": 16 << 10, "max_num_batched_tokens": 32}
    found: dict[int, list[Output]] = {}
    hits = 0
    async with running_pod(fabric, model, Shape(prefill=2, decode=2, mempool=2), **small) as pod:
        numbers = iter(range(len(prompts)))

        async def client() -> None:
            nonlocal hits
            for number in numbers:
                if number == 12:
                    await pod.crash("mempool-0")
                if number == 24:
                    await pod.start("mempool", 0, fabric, model, **small)
                found[number], cached = await said(pod, prompts[number], 18)
                hits += cached > 0

        await asyncio.gather(*(client() for _ in range(5)))
        assert hits > 0
        assert pod.router.engine.divergences == 0
        for node in pod.of("mempool"):
            assert isinstance(node, MemPool)
            node.check()
    async with running_pod(LocalFabric(), model, Shape(), caching="basic", data=tmp_path) as alone:
        for number, prompt in enumerate(prompts):
            assert found[number] == (await said(alone, prompt, 18))[0], f"request {number}"
