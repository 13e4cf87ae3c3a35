"""Blocks that memory has no room for come back from disk, whole, or are a miss."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from mempool.blocks import SIZE, name, named, names
from xpod.mempool.checks import Broken, check
from xpod.mempool.records import FILE_HEAD, HEADER_BYTES
from xpod.mempool.tiers import Tiers

MEMORY, DISK = 2 * SIZE, 6 * (len(FILE_HEAD) + HEADER_BYTES + SIZE)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def tiers(tmp_path: Path, clock: Clock) -> AsyncIterator[Tiers]:
    made = Tiers(MEMORY, DISK, tmp_path / "node", clock)
    await made.open()
    yield made
    check(made)
    made.close()


async def test_nothing_is_made_on_disk_before_it_is_needed(tiers: Tiers, tmp_path: Path) -> None:
    await tiers.put(named(1, 2))
    assert await tiers.get(names([1, 2, 3])) == named(1, 2)
    assert not (tmp_path / "node").exists()


async def test_what_leaves_memory_is_found_on_disk(tiers: Tiers) -> None:
    for number in range(1, 7):
        await tiers.put(named(number))
    assert tiers.match(names(range(1, 8))) == [True] * 6 + [False]
    assert await tiers.get(names(range(1, 8))) == named(1, 2, 3, 4, 5, 6)
    counts = tiers.counts()
    assert (counts["hits"], counts["misses"], counts["disk_hits"], counts["bytes"]) == (6, 1, 4, MEMORY)
    assert (counts["blocks"], counts["inserted"]) == (6, 6)


async def test_the_oldest_on_disk_is_forgotten_and_what_was_asked_for_is_not(tiers: Tiers) -> None:
    await tiers.put(named(1, 2, 3, 4, 5, 6))
    assert await tiers.get(names([1])) == named(1)
    for number in (7, 8):
        await tiers.put(named(number))
        assert tiers.match(names([1, number])) == [True, True]
    assert len(tiers) <= 8


async def test_a_block_that_is_here_is_not_kept_twice(tiers: Tiers) -> None:
    await tiers.put(named(1, 2, 3))
    await tiers.put(named(1, 3))
    assert tiers.counts()["blocks"] == 3


async def test_what_was_given_out_stays_while_its_memory_is_used_again(tiers: Tiers) -> None:
    await tiers.put(named(1, 2))
    given = await tiers.get(names([1, 2]))
    used = [tiers.memory.find(each).data for each in given]  # type: ignore[union-attr]
    for number in (3, 4, 5, 6):
        await tiers.put(named(number))
    now = [tiers.memory.find(each).data for each in tiers.memory]  # type: ignore[union-attr]
    assert any(one is other for one in used for other in now)
    assert given == named(1, 2)
    assert await tiers.get(names(range(1, 7))) == named(1, 2, 3, 4, 5, 6)


async def test_two_who_ask_at_once_both_get_it(tiers: Tiers) -> None:
    await tiers.put(named(1, 2, 3))
    both = await asyncio.gather(*(tiers.get(names([1, 2, 3])) for _ in range(2)))
    assert both == [named(1, 2, 3)] * 2
    assert tiers.counts()["blocks"] == 3


async def test_damaged_bytes_are_a_miss(tiers: Tiers, tmp_path: Path) -> None:
    await tiers.put(named(1, 2, 3))
    (lost,) = [each for each in names([1, 2, 3]) if each not in tiers.memory]
    (file,) = (tmp_path / "node").glob("*.kv")
    with file.open("r+b") as raw:
        os.pwrite(raw.fileno(), b"x", 80)
    assert set(await tiers.get(names([1, 2, 3]))) == set(names([1, 2, 3])) - {lost}
    assert tiers.match([lost]) == [False]


async def test_without_a_disk_memory_is_all_there_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    tiers = Tiers(MEMORY, DISK, tmp_path / "file")
    await tiers.open()
    for number in (1, 2, 3):
        await tiers.put(named(number))
    assert await tiers.get(names([1, 2, 3])) == named(2, 3)
    assert tiers.match(names([1])) == [False]
    check(tiers)
    tiers.close()


async def test_without_memory_all_is_on_disk(tmp_path: Path) -> None:
    tiers = Tiers(0, DISK, tmp_path / "node")
    await tiers.open()
    await tiers.put(named(1, 2))
    assert await tiers.get(names([1, 2])) == named(1, 2)
    assert tiers.counts()["bytes"] == 0
    check(tiers)
    tiers.close()


async def test_leased_blocks_stay_until_their_time_is_over(tiers: Tiers, clock: Clock) -> None:
    await tiers.put(named(1, 2))
    assert tiers.match(names([1, 2, 9]), lease=10.0) == [True, True, False]
    for number in range(10, 20):
        await tiers.put(named(number))
    assert set(tiers.memory) == set(names([1, 2]))
    assert await tiers.get(names([19])) == named(19), "what has no room in memory goes straight to disk"
    assert tiers.counts()["leased"] == 2
    clock.now += 10.0
    for number in (*range(20, 30), *range(20, 30)):
        await tiers.get(names([number]))  # it is wanted as often
        await tiers.put(named(number))
    assert tiers.match(names([1, 2])) == [False, False]


async def test_leased_blocks_on_disk_stay_there(tiers: Tiers) -> None:
    await tiers.put(named(1, 2, 3))
    await tiers.swap_out(names([1, 2, 3]))
    tiers.match(names([2]), lease=10.0)
    for number in range(10, 30):
        await tiers.put(named(number))
    assert await tiers.get(names([2])) == named(2)
    tiers.free(names([2]))
    for number in (*range(30, 50), *range(30, 50)):
        await tiers.get(names([number]))
        await tiers.put(named(number))
    assert tiers.match(names([2])) == [False]


async def test_a_lease_ends_with_its_block(tiers: Tiers) -> None:
    await tiers.put(named(1))
    tiers.match(names([1]), lease=10.0)
    assert tiers.delete(names([1, 2])) == [True, False]
    assert len(tiers.leases) == 0


async def test_swapped_out_and_in(tiers: Tiers) -> None:
    await tiers.put(named(1, 2))
    assert await tiers.swap_out(names([1, 9])) == [True, False]
    assert set(tiers.memory) == {name(2)}
    assert await tiers.swap_in(names([1, 2, 9])) == [True, True, False]
    assert set(tiers.memory) == set(names([1, 2]))
    assert name(1) in tiers.disk, "a restart finds it"
    assert await tiers.get(names([1, 2])) == named(1, 2)


async def test_a_restart_finds_what_was_kept(tiers: Tiers, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        await tiers.put(named(number))
    await tiers.keep()
    assert set(tiers.disk) == set(names([1, 2, 3]))
    tiers.close()
    again = Tiers(MEMORY, DISK, tmp_path / "node")
    await again.open()
    assert again.names() == set(names([1, 2, 3]))
    assert await again.get(names([1, 2, 3])) == named(1, 2, 3)
    again.close()


async def test_what_is_kept_is_what_was_used_last(tmp_path: Path) -> None:
    tiers = Tiers(10 * SIZE, DISK, tmp_path / "node")
    await tiers.open()
    await tiers.put(named(*range(10)))
    await tiers.keep()
    assert set(tiers.disk) == set(names(range(4, 10)))
    tiers.close()


async def test_a_block_that_was_deleted_while_it_was_read_is_gone(tiers: Tiers) -> None:
    await tiers.put(named(1))
    await tiers.swap_out(names([1]))
    reading = asyncio.create_task(tiers.get(names([1])))
    await asyncio.sleep(0)
    assert tiers.delete(names([1])) == [True]
    assert await reading in ({}, named(1))
    assert tiers.match(names([1])) == [False]


async def test_whoever_gives_up_while_room_is_made_leaves_all_as_it_was(tiers: Tiers) -> None:
    await tiers.put(named(1, 2))
    storing = asyncio.create_task(tiers.put(named(3)))
    for _ in range(3):
        await asyncio.sleep(0)
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    check(tiers)
    assert await tiers.get(names([1, 2])) == named(1, 2)
    await tiers.put(named(4))
    assert await tiers.get(names([1, 2, 4])) == named(1, 2, 4)


async def test_nothing_is_left_of_what_was_cleared(tiers: Tiers, tmp_path: Path) -> None:
    await tiers.put(named(1, 2, 3))
    tiers.match(names([1]), lease=5.0)
    await tiers.clear()
    assert (len(tiers), tiers.names(), len(tiers.leases)) == (0, set(), 0)
    assert list((tmp_path / "node").glob("*.kv")) == []


@pytest.mark.parametrize("spoil", ["here", "leases", "used", "disk"])
async def test_wrong_books_are_found(tmp_path: Path, spoil: str) -> None:
    tiers = Tiers(MEMORY, DISK, tmp_path / "node")
    await tiers.put(named(1, 2, 3))
    check(tiers)
    match spoil:
        case "here":
            tiers._here.discard(name(1))
        case "leases":
            tiers.leases.hold(name(9), 1e9)
        case "used":
            tiers.memory.used += 1
        case "disk":
            tiers.disk.index.used -= 1
    with pytest.raises(Broken):
        check(tiers)
    tiers.close()
