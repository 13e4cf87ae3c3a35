"""Blocks that memory has no room for come back from disk, whole, or are a miss."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from xpod.mempool.tiers import Stored, Tiers

SIZE = 100
MEMORY, DISK = 2 * SIZE, 4 * (SIZE + 8)


def block(number: int) -> Stored:
    data = bytes([number]) * SIZE
    return Stored(16, zlib.crc32(data), data)


def named(*numbers: int) -> dict[bytes, Stored]:
    return {bytes([number]): block(number) for number in numbers}


@pytest.fixture
def tiers(tmp_path: Path) -> Iterator[Tiers]:
    made = Tiers(MEMORY, DISK, tmp_path / "node")
    yield made
    made.close()


async def test_nothing_is_made_on_disk_before_it_is_needed(tiers: Tiers, tmp_path: Path) -> None:
    await tiers.put(named(1, 2))
    assert await tiers.get([b"\x01", b"\x02", b"\x03"]) == named(1, 2)
    assert not (tmp_path / "node").exists()


async def test_what_leaves_memory_is_found_on_disk(tiers: Tiers, tmp_path: Path) -> None:
    for number in range(1, 7):
        await tiers.put(named(number))
    names = list(named(1, 2, 3, 4, 5, 6, 7))
    assert tiers.present(names) == [True] * 6 + [False]
    assert await tiers.get(names) == named(1, 2, 3, 4, 5, 6)
    counts = tiers.counts()
    assert (counts["hits"], counts["misses"], counts["bytes"]) == (6, 1, MEMORY)
    assert counts["blocks"] == 6
    assert list((tmp_path / "node").iterdir()) == []  # the file has no name: nothing outlives the process


async def test_the_oldest_on_disk_is_forgotten_and_what_was_asked_for_is_not(tiers: Tiers) -> None:
    await tiers.put(named(1, 2, 3, 4, 5, 6))
    assert await tiers.get([b"\x01"]) == named(1)
    await tiers.put(named(7))
    await tiers.put(named(8))
    held = dict(zip(range(1, 9), tiers.present(list(named(*range(1, 9)))), strict=True))
    assert held[1]
    assert not held[2]
    assert sum(held.values()) == 6


async def test_a_block_that_is_here_is_not_kept_twice(tiers: Tiers) -> None:
    await tiers.put(named(1, 2, 3))
    await tiers.put(named(1, 3))
    assert tiers.counts()["blocks"] == 3


async def test_what_was_given_out_stays_while_its_memory_is_used_again(tiers: Tiers) -> None:
    await tiers.put(named(1, 2))
    given = await tiers.get([b"\x01", b"\x02"])
    used = {id(tiers._memory.get(name).data) for name in given}  # type: ignore[union-attr]
    await tiers.put(named(3, 4))
    await tiers.put(named(5, 6))
    assert used == {id(tiers._memory.get(name).data) for name in named(5, 6)}  # type: ignore[union-attr]
    assert given == named(1, 2)
    assert await tiers.get([bytes([number]) for number in range(1, 7)]) == named(1, 2, 3, 4, 5, 6)


async def test_two_who_ask_at_once_both_get_it(tiers: Tiers) -> None:
    await tiers.put(named(1, 2, 3))
    assert await asyncio.gather(tiers.get([b"\x01"]), tiers.get([b"\x01"])) == [named(1), named(1)]
    assert tiers.counts()["blocks"] == 3


async def test_damaged_bytes_are_a_miss(tiers: Tiers) -> None:
    await tiers.put(named(1, 2, 3))
    file = tiers._disk._file
    assert file is not None
    os.pwrite(file.fileno(), b"x", 50)
    assert await tiers.get([b"\x01", b"\x02"]) == named(2)
    os.ftruncate(file.fileno(), 0)
    assert await tiers.get(list(named(1, 2, 3))) == named(2, 3)


async def test_without_a_disk_memory_is_all_there_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    tiers = Tiers(MEMORY, DISK, tmp_path / "file")
    await tiers.put(named(1, 2, 3))
    assert await tiers.get(list(named(1, 2, 3))) == named(2, 3)
    assert tiers.present([b"\x01"]) == [False]
    tiers.close()
