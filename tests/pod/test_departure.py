"""Blocks leave while a step computes: what has left of a layer is what is there in the end, and nothing is missing."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from pod.harness import greedy
from xpod.attention.departure import Departure, Sink, group_ends
from xpod.attention.engine import Engine, Step
from xpod.attention.hop import Hop
from xpod.attention.passes import Passes
from xpod.attention.sequence import Sequence as Session
from xpod_model.attention_half import AttentionHalf, Segment
from xpod_model.checkpoint import Checkpoint
from xpod_model.kv import KVCache
from xpod_policy.batch import Batch
from xpod_policy.blocks import BLOCK_TOKENS, block_refs
from xpod_policy.caching import Naming
from xpod_proto import BlockPart, NewBlock
from xpod_runtime.compute import ComputeThread

MODELS = ("plain", "dense-among", "wider-heads-dense-bias", "one-expert-a-token")
PROMPT = [(7 * place) % 250 for place in range(2 * BLOCK_TOKENS + 8)]
Bits = npt.NDArray[Any]


class Lost(Exception):
    """What a hop without experts raises."""


@dataclass
class Echo:
    """A hop whose experts return the row that they are given; from `lost` questions on there are none."""

    lost: int = 1 << 30
    asked: int = 0
    open: int = 0

    def begin(self, layer: int, rows: Bits, experts: Bits) -> Bits:
        self.open += 1
        return np.repeat(rows[:, None], experts.shape[1], axis=1)

    def finish(self, exchange: Bits) -> Bits:
        self.asked += 1
        if self.asked > self.lost:
            raise Lost
        self.open -= 1
        return exchange

    def abandon(self, exchanges: object) -> None:
        self.open = 0

    @property
    def hop(self) -> Hop:
        return cast(Hop, self)


@dataclass
class Outlet:
    """Keeps what is given to it."""

    blocks: Sequence[NewBlock]
    groups: list[list[BlockPart]] = field(default_factory=list)
    checksums: list[int] = field(default_factory=list)
    given_up: bool = False

    def add(self, parts: Sequence[BlockPart]) -> None:
        assert not self.checksums, "nothing comes behind the end"
        self.groups.append(list(parts))

    def close(self, checksums: Sequence[int]) -> None:
        self.checksums = list(checksums)

    def give_up(self) -> None:
        self.given_up = True

    async def stored(self, names: Iterable[bytes]) -> None:
        assert set(names) <= {block.name for block in self.blocks}

    def data(self) -> dict[bytes, bytes]:
        """Of each block, its parts in place."""
        found = {block.name: bytearray(block.size) for block in self.blocks}
        for part in (part for group in self.groups for part in group):
            found[part.name][part.offset : part.offset + len(part.data.data)] = part.data.data
        return {name: bytes(data) for name, data in found.items()}


def half_of(model: Path, dtype: str = "fp32") -> AttentionHalf:
    return AttentionHalf.load(Checkpoint.open(model), dtype)


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("model", MODELS)
def test_a_finished_layer_changes_no_more(
    oracle_dirs: dict[str, Path], model: str, dtype: str, micro_batches: int
) -> None:
    half = half_of(oracle_dirs[model], dtype)
    cache, echo = KVCache(half.kv_spec(), 8), Echo()
    tables = [cache.alloc(3) for _ in range(micro_batches)]
    batches = [[Segment(PROMPT, 0, table, wants_logits=True)] for table in tables]
    seen: dict[int, list[bytes]] = {}

    def layers(below: int) -> list[bytes]:
        return [cache.export_layers(block, None, 0, below).tobytes() for table in tables for block in table]

    def finished(below: int) -> None:
        assert echo.open in (0, micro_batches), "all experts are at work, or none is needed any more"
        seen[below] = layers(below)

    logits = Passes(half, cache, echo.hop).run(batches, finished)
    assert logits.shape[0] == micro_batches
    assert list(seen) == sorted(seen)
    moe = set(half.config.moe_layers)
    assert set(seen) == {layer + 1 for layer in moe} | {half.config.layers}
    assert all(seen[below] == layers(below) for below in seen)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("model", MODELS)
def test_the_parts_of_a_block_are_the_block(oracle_dirs: dict[str, Path], model: str, dtype: str) -> None:
    half = half_of(oracle_dirs[model], dtype)
    cache = KVCache(half.kv_spec(), 3)
    table, refs, outlets = cache.alloc(3), block_refs(b"root", PROMPT), []
    departure = Departure(cache, list(zip(refs, table, strict=True)), lambda new: _noted(outlets, new))
    Passes(half, cache, Echo().hop).run([[Segment(PROMPT, 0, table, wants_logits=False)]], departure.finished)
    (outlet,) = outlets
    whole = [cache.export_block(block, ref.tokens).tobytes() for ref, block in zip(refs, table, strict=True)]
    assert [block.size for block in outlet.blocks] == [len(data) for data in whole]
    assert list(outlet.data().values()) == whole
    assert outlet.checksums == [zlib.crc32(data) for data in whole]
    assert len(outlet.groups) <= len(group_ends(half.config.layers))


def _noted(outlets: list[Outlet], blocks: Sequence[NewBlock]) -> Outlet:
    outlets.append(Outlet(blocks))
    return outlets[-1]


def test_groups_of_layers() -> None:
    assert [group_ends(layers) for layers in (1, 3, 4, 5, 16)] == [
        [1], [3], [2, 4], [2, 5], [4, 8, 12, 16],
    ]  # fmt: skip
    assert all(len(group_ends(layers)) == 4 for layers in range(8, 100))


@asynccontextmanager
async def engine_of(model: Path, echo: Echo, sink: Sink | None) -> AsyncIterator[Engine]:
    half = half_of(model)
    compute = ComputeThread()
    cache = KVCache(half.kv_spec(), 16)
    try:
        yield Engine(half, cache, Batch(4, 512, 16), echo.hop, compute, eos=(), micro_batches=2, sink=sink)
    finally:
        await compute.close()


async def step(engine: Engine, *ids: str) -> Step:
    """The first step of these sessions, all of one prompt."""
    for id in ids:
        session = Session(id, 0, "router-0", PROMPT, [], greedy(4), Naming(b"root"))
        engine.open(session, len(PROMPT) + 1)
        assert await engine.join(session, [], {})
    done = await engine.step()
    assert done is not None
    return done


def sink_to(outlets: list[Outlet]) -> Callable[[Sequence[NewBlock]], Outlet]:
    return lambda blocks: _noted(outlets, blocks)


async def test_a_step_hands_out_the_same_blocks_either_way(oracle_dirs: dict[str, Path]) -> None:
    model, outlets = oracle_dirs["dense-among"], list[Outlet]()
    async with engine_of(model, Echo(), None) as engine:
        done = await step(engine, "s")
        ((session, blocks),) = done.filled
        whole = {block.name: block for block in [*blocks, *await engine.tail(session)]}
        assert not done.leaving
    async with engine_of(model, Echo(), sink_to(outlets)) as engine:
        again = await step(engine, "s")
        ((session, stored), (_, tail_stored)) = again.leaving
        await stored()
        await tail_stored()
        assert not again.filled
        assert await engine.tail(session) == []
    (outlet,) = outlets
    assert outlet.data() == {name: bytes(block.data.data) for name, block in whole.items()}
    assert outlet.checksums == [block.checksum for block in whole.values()]
    assert [event.token for _, event in again.said] == [event.token for _, event in done.said]
    assert len(outlet.groups) == 2


async def test_what_two_sessions_have_in_common_leaves_once(oracle_dirs: dict[str, Path]) -> None:
    outlets: list[Outlet] = []
    async with engine_of(oracle_dirs["plain"], Echo(), sink_to(outlets)) as engine:
        done = await step(engine, "one", "two")
    assert sorted(session.id for session, _ in done.leaving) == ["one", "one", "two", "two"]
    assert [block.name for block in outlets[0].blocks] == [ref.name for ref in block_refs(b"root", PROMPT)]


async def test_a_step_that_fails_is_given_up(oracle_dirs: dict[str, Path]) -> None:
    outlets: list[Outlet] = []
    async with engine_of(oracle_dirs["dense-among"], Echo(lost=0), sink_to(outlets)) as engine:
        with pytest.raises(Lost):
            await step(engine, "s")
    (outlet,) = outlets
    assert outlet.given_up
    assert (len(outlet.groups), outlet.checksums) == (1, [])


async def test_a_step_that_fills_nothing_tells_nobody(oracle_dirs: dict[str, Path]) -> None:
    outlets: list[Outlet] = []
    async with engine_of(oracle_dirs["plain"], Echo(), sink_to(outlets)) as engine:
        done = await step(engine, "s")
        assert len(outlets) == 1
        assert (await engine.step()) is not None  # the token behind the prompt: no whole block, and no tail
        assert len(outlets) == 1
        assert len(done.said) == 1
