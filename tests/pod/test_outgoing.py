"""Blocks on their way to MemPool in parts: they arrive once, whole and right, whatever happens on the way."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mempool.nodes import Pool, pool
from xpod.attention import pool as pool_module
from xpod.attention.outgoing import Outgoing
from xpod.attention.pool import PoolClient
from xpod_policy.duties import homes
from xpod_proto import BlockPart, Message, NewBlock, Tensor, subjects
from xpod_runtime.fault_plan import Fault, FaultPlan, Rule

NODES = ("mempool-0", "mempool-1", "mempool-2")
SIZE, PIECE = 4096, 1024
MAILBOXES, ANSWERS = "test.v1.mempool.*", "_INBOX.>"
NAMES = [bytes([number]) * 16 for number in range(12)]
CONTENT = {name: bytes((name[0] * 31 + place) % 251 for place in range(SIZE)) for name in NAMES}
BLOCKS = [NewBlock(name, 16, SIZE) for name in NAMES]


@dataclass
class Way:
    """Nodes, a client of theirs, and what it said to whom."""

    pool: Pool
    client: PoolClient = field(init=False)
    said: list[tuple[str, str]] = field(default_factory=list)
    heard: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self.client = PoolClient(self._ask, lambda: sorted(self.pool.nodes), timeout=0.3)

    async def _ask(self, node: str, message: Message, timeout: float) -> Message:
        self.said.append((node, type(message).__name__))
        reply = await self.pool.client.request(
            subjects.mailbox("test", "mempool", node), message, timeout=timeout
        )
        async with self.heard:
            self.heard.notify_all()
        return reply

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns once it holds; looks whenever a node has answered."""
        async with asyncio.timeout(10), self.heard:
            await self.heard.wait_for(condition)

    def rooms(self, *nodes: str) -> int:
        return sum(len(self.pool.nodes[node].allocation.rooms) for node in nodes or self.pool.nodes)

    async def settled(self) -> None:
        """Returns once nothing is under way any more."""
        while late := [task for task in self.client._late if not task.done()]:
            await asyncio.gather(*late)

    async def holders(self, name: bytes) -> set[str]:
        """The nodes that have a block; what they have is right."""
        found = set()
        for member, node in self.pool.nodes.items():
            blocks = await node.tiers.read([name])
            if name in blocks:
                assert bytes(blocks[name].data) == CONTENT[name]
                found.add(member)
        return found

    def count(self, kind: str) -> Counter[str]:
        return Counter(node for node, said in self.said if said == kind)


def send(outgoing: Outgoing, group: int, blocks: Sequence[NewBlock] = BLOCKS) -> None:
    """One group of layers; the last is the fourth."""
    begin = group * PIECE
    pieces = [(block.name, CONTENT[block.name][begin : begin + PIECE]) for block in blocks]
    outgoing.add([BlockPart(name, begin, Tensor("u8", (PIECE,), piece)) for name, piece in pieces])
    if begin + PIECE == SIZE:
        outgoing.close([zlib.crc32(CONTENT[block.name]) for block in blocks])


@asynccontextmanager
async def way_to(tmp_path: Path, *nodes: str, **options: object) -> AsyncIterator[Way]:
    async with pool(tmp_path, *nodes, **options) as nodes_there:
        way = Way(nodes_there)
        try:
            yield way
        finally:
            way.client.close()


async def stored(outgoing: Outgoing) -> None:
    await asyncio.wait_for(outgoing.stored(NAMES), 10)


async def test_one_message_a_node_and_group(tmp_path: Path) -> None:
    async with way_to(tmp_path, *NODES) as way:
        outgoing = Outgoing(way.client, BLOCKS)
        await way.until(lambda: way.rooms() == 2 * len(NAMES))
        for group in range(4):
            before = way.count("FillBlocks")
            send(outgoing, group)
            await way.until(lambda before=before: way.count("FillBlocks") - before == Counter(NODES))  # type: ignore[misc]
        await stored(outgoing)
        await way.settled()
        for name in NAMES:
            assert await way.holders(name) == set(homes(name, NODES))
        assert way.count("AllocBlocks") == way.count("InsertBlocks") == Counter(NODES)
        assert not way.count("StoreBlocks")
        assert (way.rooms(), way.client._behind) == (0, dict.fromkeys(NODES, 0))


async def test_groups_that_wait_go_together(tmp_path: Path) -> None:
    async with way_to(tmp_path, NODES[0]) as way:
        outgoing = Outgoing(way.client, BLOCKS)
        for group in range(4):
            send(outgoing, group)
        await stored(outgoing)
        assert [said for _, said in way.said] == ["AllocBlocks", "FillBlocks", "InsertBlocks"]


async def test_a_long_message_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "MESSAGE_BYTES", 4 * PIECE)
    async with way_to(tmp_path, NODES[0]) as way:
        outgoing = Outgoing(way.client, BLOCKS)
        for group in range(4):
            send(outgoing, group)
        await stored(outgoing)
        assert way.count("FillBlocks")[NODES[0]] == len(NAMES)
        assert all([await way.holders(name) for name in NAMES])


async def test_what_is_there_already_is_not_sent(tmp_path: Path) -> None:
    async with way_to(tmp_path, *NODES[:2]) as way:
        for _ in range(2):
            outgoing = Outgoing(way.client, BLOCKS)
            for group in range(4):
                send(outgoing, group)
            await stored(outgoing)
            await way.settled()
        assert way.count("FillBlocks") == Counter(NODES[:2])
        assert not way.count("StoreBlocks")


async def test_two_at_once(tmp_path: Path) -> None:
    """Two workers that compute the same fill the same room."""
    async with way_to(tmp_path, *NODES[:2]) as way:
        both = [Outgoing(way.client, BLOCKS), Outgoing(way.client, BLOCKS)]
        for group in range(4):
            for outgoing in both:
                send(outgoing, group)
        for outgoing in both:
            await stored(outgoing)
        await way.settled()
        assert [await way.holders(name) for name in NAMES] == [set(NODES[:2])] * len(NAMES)
        assert way.rooms() == 0


async def test_a_step_that_fails_frees_its_room(tmp_path: Path) -> None:
    async with way_to(tmp_path, *NODES) as way:
        outgoing = Outgoing(way.client, BLOCKS)
        send(outgoing, 0)
        await way.until(lambda: way.rooms() == 2 * len(NAMES))
        outgoing.give_up()
        await stored(outgoing)
        await way.settled()
        assert way.rooms() == 0
        assert not any([await way.holders(name) for name in NAMES])
        assert not way.count("StoreBlocks")


async def test_a_step_that_fails_behind_its_last_layer_has_stored_its_blocks(tmp_path: Path) -> None:
    async with way_to(tmp_path, NODES[0]) as way:
        outgoing = Outgoing(way.client, BLOCKS)
        for group in range(4):
            send(outgoing, group)
        outgoing.give_up()
        await stored(outgoing)
        assert all([await way.holders(name) for name in NAMES])


async def test_without_room_in_memory_blocks_are_stored_whole(tmp_path: Path) -> None:
    async with way_to(tmp_path, *NODES[:2], mempool_bytes=SIZE - 1) as way:
        outgoing = Outgoing(way.client, BLOCKS)
        for group in range(4):
            send(outgoing, group)
        await stored(outgoing)
        await way.settled()
        assert [await way.holders(name) for name in NAMES] == [set(NODES[:2])] * len(NAMES)
        assert not way.count("FillBlocks")


async def test_of_little_room_some_blocks_have_some(tmp_path: Path) -> None:
    async with way_to(tmp_path, NODES[0], mempool_bytes=5 * SIZE) as way:
        outgoing = Outgoing(way.client, BLOCKS)
        await way.until(lambda: way.count("AllocBlocks").total() > 0)
        assert way.rooms() < len(NAMES)
        for group in range(4):
            send(outgoing, group)
        await stored(outgoing)
        assert [await way.holders(name) for name in NAMES] == [{NODES[0]}] * len(NAMES)


async def test_room_that_a_node_gave_up(tmp_path: Path) -> None:
    async with way_to(tmp_path, *NODES[:2]) as way:
        outgoing = Outgoing(way.client, BLOCKS)
        send(outgoing, 0)
        await way.until(lambda: way.count("FillBlocks").total() == 2)
        for node in way.pool.nodes.values():
            node.allocation.free(NAMES)
        for group in (1, 2, 3):
            send(outgoing, group)
        await stored(outgoing)
        await way.settled()
        assert [await way.holders(name) for name in NAMES] == [set(NODES[:2])] * len(NAMES)


@pytest.mark.parametrize("groups", [0, 1, 3])
async def test_a_node_that_dies_on_the_way(tmp_path: Path, groups: int) -> None:
    async with way_to(tmp_path, *NODES[:2]) as way:
        outgoing = Outgoing(way.client, BLOCKS)
        for group in range(groups):
            send(outgoing, group)
        await way.until(lambda: way.count("FillBlocks" if groups else "AllocBlocks").total() == 2)
        await way.pool.crash(NODES[1])
        for group in range(groups, 4):
            send(outgoing, group)
        await stored(outgoing)
        assert [await way.holders(name) for name in NAMES] == [{NODES[0]}] * len(NAMES)


async def test_nodes_that_come_back_empty_on_the_way(tmp_path: Path) -> None:
    async with way_to(tmp_path, NODES[0], mempool_disk_bytes=0) as way:
        outgoing = Outgoing(way.client, BLOCKS)
        send(outgoing, 0)
        await way.until(lambda: way.count("FillBlocks").total() == 1)
        await way.pool.crash(NODES[0])
        await way.pool.begin(NODES[0])
        for group in (1, 2, 3):
            send(outgoing, group)
        await stored(outgoing)
        assert [await way.holders(name) for name in NAMES] == [{NODES[0]}] * len(NAMES)


async def test_no_node_at_all(tmp_path: Path) -> None:
    async with way_to(tmp_path, NODES[0]) as way:
        client = PoolClient(way._ask, lambda: [])
        outgoing = Outgoing(client, BLOCKS)
        for group in range(4):
            send(outgoing, group)
        await stored(outgoing)
        assert way.said == []


async def test_a_node_that_is_behind_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "BEHIND_BYTES", SIZE)
    async with way_to(tmp_path, *NODES[:2]) as way:
        way.client._behind[NODES[1]] = 1
        outgoing = Outgoing(way.client, BLOCKS)
        for group in range(4):
            send(outgoing, group)
        await stored(outgoing)
        assert {node for node, _ in way.said} == {NODES[0]}


FAULTS = [
    *(Rule(Fault.DROP, subject, skip=skip, limit=1) for subject in (MAILBOXES, ANSWERS) for skip in range(6)),
    Rule(Fault.DROP, MAILBOXES, probability=0.3),
    Rule(Fault.DUPLICATE),
    Rule(Fault.REORDER, MAILBOXES, limit=3),
    Rule(Fault.CORRUPT, MAILBOXES, min_size=PIECE, limit=2),
    Rule(Fault.CORRUPT, MAILBOXES, probability=0.3, min_size=PIECE),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda rule: f"{rule.fault.value} {rule.subject} {rule.skip}")
async def test_on_a_disturbed_network(tmp_path: Path, fault: Rule) -> None:
    """Blocks that are in the pool are right; where only a few messages are hit, all of them are there."""
    async with way_to(tmp_path, *NODES[:2]) as way:
        rule = replace(fault)
        way.pool.fabric.plan = FaultPlan([rule], seed=3)
        outgoing = Outgoing(way.client, BLOCKS)
        for group in range(4):
            send(outgoing, group)
        await stored(outgoing)
        way.pool.fabric.plan = FaultPlan()
        await way.settled()
        assert rule.hits > 0
        holders = [await way.holders(name) for name in NAMES]
        assert all(holders) or fault.limit is None
