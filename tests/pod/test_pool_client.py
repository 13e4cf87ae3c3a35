"""The workers' way to MemPool: what a node has is found, whoever else is slow, gone or wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from xpod.attention import pool as pool_module
from xpod.attention.pool import PoolClient, block_data
from xpod_policy.blocks import BlockRef, block_refs
from xpod_policy.rendezvous import replicas
from xpod_proto import (
    Ack,
    BlockData,
    FetchBlocks,
    FetchedBlocks,
    MatchBlocks,
    MatchedBlocks,
    Message,
    StoreBlocks,
    Tensor,
)
from xpod_runtime.errors import NoResponders

REFS = block_refs(b"root", range(16 * 20))
NODES = ["mempool-0", "mempool-1", "mempool-2"]


@dataclass
class Nodes:
    """Three nodes as a worker sees them; a `hung` one never answers, a `dead` one is known to be gone."""

    blocks: dict[str, dict[bytes, BlockData]] = field(default_factory=lambda: {node: {} for node in NODES})
    hung: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def ask(self, node: str, message: Message, timeout: float) -> Message:
        self.asked.append((node, type(message).__name__))
        if node in self.hung:
            await asyncio.Event().wait()
        if node in self.dead:
            raise NoResponders(node)
        kept = self.blocks[node]
        match message:
            case FetchBlocks():
                return FetchedBlocks(tuple(kept[name] for name in message.names if name in kept))
            case MatchBlocks():
                return MatchedBlocks(tuple(name in kept for name in message.names))
            case StoreBlocks():
                kept.update((block.name, block) for block in message.blocks)
        return Ack()

    def client(self, near: str = "", **options: float) -> PoolClient:
        return PoolClient(self.ask, lambda: NODES, near=lambda node: node == near, **options)  # type: ignore[arg-type]

    async def filled(self) -> None:
        client = self.client()
        await client.store(data(REFS))
        await asyncio.gather(*client._late)


def data(refs: Sequence[BlockRef]) -> list[BlockData]:
    return [block_data(ref, bytes([1 + ref.start % 251]) * 64) for ref in refs]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    """Whose clients do not wait long."""
    monkeypatch.setattr("xpod_policy.hedging.FIRST_SECONDS", 0.02)
    return Nodes()


async def test_every_block_goes_to_its_two_nodes_and_comes_back(nodes: Nodes) -> None:
    await nodes.filled()
    for ref in REFS:
        assert [node for node in NODES if ref.name in nodes.blocks[node]] == sorted(
            replicas(ref.name, NODES, 2)
        )
    found = await nodes.client().load(REFS)
    assert [found[ref.name] for ref in REFS] == data(REFS)


@pytest.mark.parametrize("way", ["hung", "dead"])
async def test_one_node_is_not_needed(nodes: Nodes, way: str) -> None:
    await nodes.filled()
    getattr(nodes, way).add("mempool-0")
    found = await asyncio.wait_for(nodes.client(timeout=600).load(REFS), 5)
    assert list(map(found.get, (ref.name for ref in REFS))) == data(REFS)
    assert await nodes.client().missing(REFS) == []


async def test_a_store_needs_one_of_its_nodes(nodes: Nodes) -> None:
    nodes.hung = {"mempool-0"}
    client = nodes.client(timeout=600)
    await asyncio.wait_for(client.store(data(REFS)), 5)
    assert await nodes.client().missing(REFS) == []
    client.close()


async def test_what_a_node_lost_is_asked_of_the_other(nodes: Nodes) -> None:
    await nodes.filled()
    nodes.blocks["mempool-1"].clear()
    assert len(await nodes.client().load(REFS)) == len(REFS)


async def test_a_corrupt_block_is_taken_from_the_other_node(nodes: Nodes) -> None:
    await nodes.filled()
    first = replicas(REFS[0].name, NODES, 2)[0]
    whole = nodes.blocks[first][REFS[0].name]
    wrong = BlockData(whole.name, whole.tokens, whole.checksum, Tensor("u8", (64,), bytes(64)))
    nodes.blocks[first][REFS[0].name] = wrong
    found = await nodes.client().load(REFS[:1])
    assert bytes(found[REFS[0].name].data.data) == bytes(data(REFS[:1])[0].data.data)


async def test_what_nobody_has_is_missing(nodes: Nodes) -> None:
    await nodes.filled()
    gone = REFS[3].name
    for kept in nodes.blocks.values():
        kept.pop(gone, None)
    client = nodes.client()
    assert await client.missing(REFS) == [REFS[3]]
    assert set(await client.load(REFS)) == {ref.name for ref in REFS} - {gone}


async def test_near_nodes_are_read(nodes: Nodes) -> None:
    await nodes.filled()
    near = "mempool-2"
    at_home = [ref for ref in REFS if near in replicas(ref.name, NODES, 2)]
    nodes.asked.clear()
    await nodes.client(near=near).load(at_home)
    assert {node for node, _ in nodes.asked} == {near}


async def test_no_more_is_sent_to_a_node_that_is_behind(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "BEHIND_BYTES", 100)
    nodes.hung = {"mempool-0"}
    client = nodes.client(timeout=600)
    for block in data(REFS):
        await asyncio.wait_for(client.store([block]), 5)
    assert nodes.asked.count(("mempool-0", "StoreBlocks")) == 1
    client.close()
    await asyncio.gather(*client._late, return_exceptions=True)
    assert client._behind["mempool-0"] == 0


async def test_without_nodes_nothing_is_found_and_nothing_waits() -> None:
    async def ask(node: str, message: Message, timeout: float) -> Message:
        raise AssertionError("nobody is there")

    client = PoolClient(ask, lambda: [])
    assert await client.load(REFS) == {}
    await client.store(data(REFS))
    assert await client.missing(REFS) == REFS
