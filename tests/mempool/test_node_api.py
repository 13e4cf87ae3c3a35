"""What a node answers: each call of MemServe, twice as well as once, and what is refused."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from mempool.blocks import SIZE, block, messages, name, names
from mempool.nodes import Pool, pool
from xpod_proto import (
    Ack,
    AllocBlocks,
    BlockData,
    BlockFlags,
    BlockPart,
    DeleteBlocks,
    FetchBlocks,
    FetchedBlocks,
    FillBlocks,
    FreeBlocks,
    InsertBlocks,
    MatchBlocks,
    MatchedBlocks,
    Message,
    NewBlock,
    StoreBlocks,
    SwapIn,
    SwapOut,
    Tensor,
    TransferBlocks,
)
from xpod_runtime.errors import RemoteError


@pytest_asyncio.fixture
async def one(tmp_path: Path) -> AsyncIterator[Pool]:
    async with pool(tmp_path, "a", mempool_bytes=10 * SIZE) as made:
        yield made


@pytest_asyncio.fixture
async def two(tmp_path: Path) -> AsyncIterator[Pool]:
    """Two nodes; what is stored at one stays there, as both have long known one another."""
    async with pool(tmp_path, "a", "b") as made:
        await made.until_whole()
        for node in made.nodes.values():
            node.replication._settled_at = 0.0
        yield made


async def fetched(
    at: Pool, numbers: range | list[int], node: str = "a", lease: float = 0.0
) -> tuple[BlockData, ...]:
    return (await at.ask(node, FetchBlocks(names(numbers), lease), FetchedBlocks)).blocks


async def flags(at: Pool, message: Message, node: str = "a") -> tuple[bool, ...]:
    return (await at.ask(node, message, BlockFlags)).flags


async def test_stored_matched_fetched_deleted(one: Pool) -> None:
    for _ in range(2):
        await one.ask("a", StoreBlocks(messages([1, 2])), Ack)
    match = await one.ask("a", MatchBlocks(names([2, 3, 1])), MatchedBlocks)
    assert match.present == (True, False, True)
    assert await fetched(one, [2, 3, 1]) == messages([2, 1])
    assert await flags(one, DeleteBlocks(names([1, 3]))) == (True, False)
    assert await flags(one, DeleteBlocks(names([1, 3]))) == (False, False)
    assert await fetched(one, [1, 2]) == messages([2])
    assert one.nodes["a"].tiers.names() == {name(2)}
    load = one.nodes["a"].load()
    told = ("blocks", "bytes", "budget", "hits", "misses", "inserted", "received_bytes", "sent_bytes")
    assert [load[key] for key in told] == [1, SIZE, 10 * SIZE, 3, 2, 2, 4 * SIZE, 3 * SIZE]


async def test_a_lease_keeps_and_free_gives_up(one: Pool) -> None:
    await one.ask("a", StoreBlocks(messages([1, 2])), Ack)
    assert len(await fetched(one, [1], lease=60.0)) == 1
    await one.ask("a", MatchBlocks(names([2]), 60.0), MatchedBlocks)
    assert one.nodes["a"].load()["leased"] == 2
    await one.ask("a", FreeBlocks(names([1, 9])), Ack)
    assert one.nodes["a"].load()["leased"] == 1
    await one.ask("a", StoreBlocks(messages(range(10, 40))), Ack)
    assert name(2) in one.nodes["a"].tiers.memory


def parts(number: int, *spans: tuple[int, int]) -> tuple[BlockPart, ...]:
    data = bytes(block(number).data)
    return tuple(BlockPart(name(number), a, Tensor("u8", (b - a,), data[a:b])) for a, b in spans)


async def test_allocated_filled_and_inserted(one: Pool) -> None:
    await one.ask("a", StoreBlocks(messages([3])), Ack)
    new = tuple(NewBlock(name(number), block(number).tokens, SIZE) for number in (1, 2, 3))
    for _ in range(2):
        assert await flags(one, AllocBlocks(new)) == (True, True, False)
    assert one.nodes["a"].load()["bytes"] == 3 * SIZE
    checksums = tuple(block(number).checksum for number in (1, 2))
    assert await flags(one, FillBlocks((*parts(1, (50, 100), (0, 60)), *parts(9, (0, 5))))) == (
        True,
        True,
        False,
    )
    assert await flags(one, FillBlocks(parts(2, (0, 99)))) == (True,)
    assert await fetched(one, [1, 2]) == (), "not visible"
    for _ in range(2):
        assert await flags(one, InsertBlocks(names([1, 2]), checksums)) == (True, False)
    assert await fetched(one, [1, 2]) == messages([1])
    assert await flags(one, FillBlocks(parts(1, (0, 10)))) == (True,), "it is there"
    await one.ask("a", FreeBlocks(names([2])), Ack)
    assert await flags(one, FillBlocks(parts(2, (99, 100)))) == (False,)
    assert one.nodes["a"].load()["bytes"] == 2 * SIZE


async def test_wrong_bytes_are_not_inserted(one: Pool) -> None:
    await flags(one, AllocBlocks((NewBlock(name(1), 16, SIZE),)))
    await flags(one, FillBlocks(tuple(BlockPart(name(1), 0, part.data) for part in parts(2, (0, SIZE)))))
    assert await flags(one, InsertBlocks(names([1]), (block(1).checksum,))) == (False,)
    await flags(one, FillBlocks(parts(1, (0, SIZE))))
    assert await flags(one, InsertBlocks(names([1]), (block(1).checksum,))) == (True,)


async def test_there_is_room_for_so_much(one: Pool) -> None:
    await one.ask("a", StoreBlocks(messages([20, 21])), Ack)
    new = tuple(NewBlock(name(number), 16, SIZE) for number in range(12))
    assert await flags(one, AllocBlocks(new)) == (True,) * 10 + (False,) * 2
    assert await fetched(one, [20, 21]) == messages([20, 21]), "from disk"
    one.nodes["a"].allocation.free(names(range(12)))
    assert await flags(one, AllocBlocks((NewBlock(name(50), 16, 10 * SIZE + 1),))) == (False,)


async def test_room_that_is_not_filled_is_given_up(one: Pool) -> None:
    await flags(one, AllocBlocks((NewBlock(name(1), 16, 10 * SIZE),), 0.0))
    assert await flags(one, AllocBlocks((NewBlock(name(2), 16, 10 * SIZE),), 60.0)) == (True,)
    assert await flags(one, FillBlocks(parts(1, (0, 10)))) == (False,)


async def test_who_allocates_at_once_shares_the_room(one: Pool) -> None:
    new = AllocBlocks((NewBlock(name(1), 16, SIZE),))
    assert await asyncio.gather(*(flags(one, new) for _ in range(5))) == [(True,)] * 5
    assert one.nodes["a"].load()["bytes"] == SIZE


async def test_swapped(one: Pool) -> None:
    await one.ask("a", StoreBlocks(messages([1, 2])), Ack)
    for _ in range(2):
        assert await flags(one, SwapOut(names([1, 9]))) == (True, False)
    assert one.nodes["a"].load()["bytes"] == SIZE
    for _ in range(2):
        assert await flags(one, SwapIn(names([9, 1]))) == (False, True)
    assert one.nodes["a"].load()["bytes"] == 2 * SIZE


BAD: list[tuple[Message, str]] = [
    (StoreBlocks((block(1).message(b"short"),)), "bad_block"),
    (StoreBlocks((BlockData(name(1), 0, 0, Tensor("u8", (1,), b"x")),)), "bad_block"),
    (StoreBlocks((BlockData(name(1), 17, 0, Tensor("u8", (1,), b"x")),)), "bad_block"),
    (StoreBlocks((BlockData(name(1), 16, 0, Tensor("u8", (0,), b"")),)), "bad_block"),
    (StoreBlocks((*messages([1]), BlockData(name(2), 16, 7, Tensor("u8", (1,), b"x")))), "corrupt_block"),
    (FetchBlocks((b"x" * 17,)), "bad_block"),
    (MatchBlocks((b"",)), "bad_block"),
    (AllocBlocks((NewBlock(name(1), 16, 0),)), "bad_block"),
    (AllocBlocks((NewBlock(b"x", 16, 10),)), "bad_block"),
    (AllocBlocks((NewBlock(name(7), 16, 11),)), "bad_block"),
    (FillBlocks((BlockPart(name(7), 6, Tensor("u8", (5,), b"abcde")),)), "bad_block"),
    (InsertBlocks(names([1, 2]), (1,)), "bad_block"),
    (FreeBlocks((b"x",)), "bad_block"),
    (DeleteBlocks((b"x",)), "bad_block"),
    (SwapOut((b"x",)), "bad_block"),
    (SwapIn((b"x",)), "bad_block"),
    (TransferBlocks((b"x",), "a"), "bad_block"),
    (TransferBlocks(names([1]), "a.b"), "bad_block"),
]


@pytest.mark.parametrize(
    ("message", "code"), BAD, ids=lambda part: part if isinstance(part, str) else type(part).__name__
)
async def test_what_is_refused(one: Pool, message: Message, code: str) -> None:
    await flags(one, AllocBlocks((NewBlock(name(7), 16, 10),)))
    with pytest.raises(RemoteError) as error:
        await one.ask("a", message, Ack)
    assert error.value.code == code
    assert one.nodes["a"].tiers.names() == set()
    one.nodes["a"].check()


@pytest.mark.parametrize("size", [SIZE, 400_000, 1_500_000])
async def test_a_transfer_is_visible_there(two: Pool, size: int) -> None:
    numbers = [1, 2, 3]
    await two.ask("a", StoreBlocks(messages(numbers, size)), Ack)
    assert two.nodes["b"].tiers.names() == set()
    for _ in range(2):
        assert await flags(two, TransferBlocks(names([9, *numbers]), "b")) == (False, True, True, True)
    assert await fetched(two, numbers, "b") == messages(numbers, size)
    load = two.nodes["a"].load()
    assert (load["transfers"], load["sent_bytes"]) == (6, 3 * size), "what is there is not sent again"


@pytest.mark.parametrize("size", [SIZE, 1_500_000])
async def test_a_transfer_fills_room(two: Pool, size: int) -> None:
    await two.ask("a", StoreBlocks(messages([1, 2], size)), Ack)
    await flags(two, AllocBlocks((NewBlock(name(1), block(1).tokens, size),)), "b")
    assert await flags(two, TransferBlocks(names([1, 2, 3]), "b", insert=False)) == (True, False, False)
    assert two.nodes["b"].tiers.names() == set()
    assert await flags(two, InsertBlocks(names([1]), (block(1, size).checksum,)), "b") == (True,)
    assert await fetched(two, [1], "b") == messages([1], size)


@pytest.mark.parametrize("to", ["gone", "b", "a"])
async def test_a_transfer_to_who_is_not_there(two: Pool, to: str) -> None:
    await two.ask("a", StoreBlocks(messages([1])), Ack)
    await two.crash("b")
    for insert in (True, False):
        assert await flags(two, TransferBlocks(names([1, 2]), to, insert)) == (to == "a", False)


async def test_a_block_from_disk_is_checked(one: Pool, tmp_path: Path) -> None:
    await one.ask("a", StoreBlocks(messages([1, 2])), Ack)
    await flags(one, SwapOut(names([1, 2])))
    (file,) = (tmp_path / "a" / "blocks").glob("*.kv")
    raw = bytearray(file.read_bytes())
    raw[100] ^= 1
    file.write_bytes(raw)
    assert await fetched(one, [1, 2]) == messages([2])
    assert all(zlib.crc32(each.data.data) == each.checksum for each in await fetched(one, [1, 2]))


async def test_forgotten_all(one: Pool) -> None:
    await one.ask("a", StoreBlocks(messages(range(30))), Ack)
    await flags(one, AllocBlocks((NewBlock(name(40), 16, SIZE),)))
    node = one.nodes["a"]
    await node.clear()
    load = node.load()
    assert (load["blocks"], load["bytes"], load["disk_bytes"], node.tiers.memory.reserved) == (0, 0, 0, 0)
    await one.ask("a", StoreBlocks(messages([1])), Ack)
    assert await fetched(one, [1]) == messages([1])
