"""Blocks on disk: found again by whoever opens the directory, and never a wrong one, whatever happened to the files."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from mempool.blocks import SIZE, block, name, named, names
from xpod.mempool.disk import Disk
from xpod.mempool.records import FILE_HEAD, HEADER_BYTES, Header, unpack

RECORD = HEADER_BYTES + SIZE
SEGMENT = len(FILE_HEAD) + 2 * RECORD
BUDGET = 16 * SEGMENT
Open = Callable[..., Awaitable[Disk]]


@pytest_asyncio.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the directory anew; whoever had it before closes it."""
    last: list[Disk] = []

    async def again(budget: int = BUDGET) -> Disk:
        for disk in last:
            disk.close()
        last[:] = [Disk(tmp_path / "blocks", budget)]
        await last[0].open()
        return last[0]

    yield again
    for disk in last:
        disk.close()


def files(folder: Path) -> list[Path]:
    return sorted((folder / "blocks").glob("*.kv"))


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in files(folder))


async def test_nothing_is_made_before_it_is_needed(opened: Open, tmp_path: Path) -> None:
    disk = await opened()
    assert await disk.read(names([1])) == {}
    assert not (tmp_path / "blocks").exists()


async def test_what_was_written_is_found_again(opened: Open, tmp_path: Path) -> None:
    disk = await opened()
    await disk.write(named(1, 2, 3))
    assert await disk.read(names([3, 9, 1])) == named(3, 1)
    again = await opened()
    assert set(again) == set(names([1, 2, 3]))
    assert await again.read(names([1, 2, 3])) == named(1, 2, 3)
    assert again.index.used == bytes_in(tmp_path) == 2 * len(FILE_HEAD) + 3 * RECORD
    await again.write(named(4))
    assert len(files(tmp_path)) == 2, "the last segment is gone on with"


async def test_the_budget_holds_and_the_oldest_go(opened: Open, tmp_path: Path) -> None:
    disk = await opened()
    told: set[bytes] = set()
    disk.on_change = told.update
    for number in range(50):
        await disk.write(named(number))
        assert disk.index.used == bytes_in(tmp_path) <= BUDGET
    assert set(disk) == set(names(range(18, 50)))
    assert told == set(names(range(50)))
    smaller = await opened(BUDGET // 2)
    assert smaller.index.used == bytes_in(tmp_path) <= BUDGET // 2
    assert set(smaller) == set(names(range(34, 50)))
    assert await smaller.read(names(range(50))) == named(*range(34, 50))


async def test_a_deleted_block_does_not_come_back(opened: Open) -> None:
    disk = await opened()
    await disk.write(named(1, 2, 3))
    disk.forget(names([2]))
    assert await disk.read(names([2])) == {}
    again = await opened()
    assert set(again) == set(names([1, 3]))
    await again.write(named(2))
    last = await opened()
    assert await last.read(names([1, 2, 3])) == named(1, 2, 3)


async def test_nothing_is_left_of_a_cleared_disk(opened: Open, tmp_path: Path) -> None:
    disk = await opened()
    await disk.write(named(1, 2, 3))
    await disk.clear()
    assert (set(disk), files(tmp_path), disk.index.used) == (set(), [], 0)
    await disk.write(named(4))
    assert set(await opened()) == {name(4)}


@pytest.mark.parametrize("cut", range(1, 2 * RECORD + 1, 7))
async def test_a_torn_file_is_read_as_far_as_it_goes(opened: Open, tmp_path: Path, cut: int) -> None:
    disk = await opened()
    await disk.write(named(1, 2))
    disk.close()
    (file,) = files(tmp_path)
    os.truncate(file, file.stat().st_size - cut)
    again = await opened()
    whole = 1 if cut <= RECORD else 0
    assert await again.read(names([1, 2])) == named(*range(1, 1 + whole))
    assert again.index.used == bytes_in(tmp_path)
    await again.write(named(2, 3))
    last = await opened()
    assert await last.read(names([2, 3])) == named(2, 3)


@pytest.mark.parametrize("at", range(0, SEGMENT, 5))
async def test_a_flipped_byte_is_a_miss_and_never_a_wrong_block(
    opened: Open, tmp_path: Path, at: int
) -> None:
    disk = await opened()
    await disk.write(named(1, 2))
    disk.close()
    (file,) = files(tmp_path)
    raw = bytearray(file.read_bytes())
    raw[at] ^= 0x41
    file.write_bytes(raw)
    again = await opened()
    found = await again.read(names([1, 2]))
    assert set(found.items()) <= set(named(1, 2).items())
    assert len(found) < 2
    assert set(again) == set(found), "what was unreadable is forgotten"
    if at < len(FILE_HEAD):
        assert files(tmp_path) == [], "no file of ours"


async def test_a_block_in_the_place_of_another_is_a_miss(opened: Open, tmp_path: Path) -> None:
    """Files that were swapped while the node ran: what is read there is whole, and somebody else's."""
    disk = await opened()
    await disk.write(named(1, 2, 3, 4))
    first, second = files(tmp_path)
    swapped = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(swapped)
    assert await disk.read(names([1, 2, 3, 4])) == {}
    assert set(disk) == set()


async def test_other_files_are_removed_or_left_alone(opened: Open, tmp_path: Path) -> None:
    folder = tmp_path / "blocks"
    folder.mkdir()
    for file in ("000000000007.kv", "strange.kv", "1.kv"):
        (folder / file).write_bytes(b"XPODKV\x02\nsomething else")
    (folder / "notes.txt").write_text("not ours")
    disk = await opened()
    assert (set(disk), files(tmp_path)) == (set(), [])
    assert (folder / "notes.txt").read_text() == "not ours"
    await disk.write(named(1))
    assert await disk.read(names([1])) == named(1)


async def test_held_blocks_are_not_dropped(opened: Open) -> None:
    disk = await opened()
    await disk.write(named(*range(32)))
    held = set(names([0, 5]))
    for number in range(100, 140):
        await disk.write(named(number), held)
    assert await disk.read(names([0, 5])) == named(0, 5)
    await disk.write(named(200), set(disk))
    assert name(200) not in disk, "where all is held, there is no room"


async def test_what_a_write_drops_of_its_own_is_written_again(opened: Open) -> None:
    disk = await opened()
    await disk.write(named(*range(32)))
    await disk.write(named(0, 1, 50))
    assert await disk.read(names([0, 1, 50])) == named(0, 1, 50)


@pytest.mark.parametrize("way", ["file", "read-only", "locked"])
async def test_without_a_directory_nothing_is_kept(opened: Open, tmp_path: Path, way: str) -> None:
    folder = tmp_path / "blocks"
    other = Disk(folder, BUDGET)
    if way == "file":
        folder.write_text("in the way")
    elif way == "locked":
        await other.write(named(7))
    else:
        folder.symlink_to("/proc/nothing-can-be-made-here")
    disk = await opened()
    told: list[bytes] = []
    disk.on_change = told.extend
    await disk.write(named(1, 2))
    assert (set(disk), sorted(told)) == (set(), sorted(2 * names([1, 2])))
    assert await disk.read(names([1])) == {}
    disk.forget(names([1]))
    await disk.clear()
    other.close()


async def test_a_full_disk_keeps_what_it_took(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = await opened()
    await disk.write(named(1))
    with monkeypatch.context() as full:
        full.setattr(os, "pwritev", lambda file, pieces, offset: os.pwrite(file, pieces[0][:20], offset))
        await disk.write(named(2, 3))
        assert set(disk) == {name(1)}
        assert bytes_in(tmp_path) <= disk.index.used
    await disk.write(named(4))
    again = await opened()
    assert await again.read(names([1, 2, 3, 4])) == named(1, 4)


async def test_files_that_cannot_be_removed_stop_the_writing(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = await opened()
    await disk.write(named(*range(32)))
    with monkeypatch.context() as stuck:

        def refuse(self: Path, missing_ok: bool = False) -> None:
            raise PermissionError("not yours")

        stuck.setattr(Path, "unlink", refuse)
        await disk.write(named(100, 101))
        assert name(100) not in disk
        assert bytes_in(tmp_path) <= BUDGET
    await disk.write(named(102))
    assert bytes_in(tmp_path) == disk.index.used <= BUDGET
    assert await disk.read(names([102])) == named(102)


async def test_a_file_that_is_gone_is_a_miss(opened: Open, tmp_path: Path) -> None:
    disk = await opened()
    await disk.write(named(1))
    disk.close()
    shutil.rmtree(tmp_path / "blocks")
    again = await opened()
    assert set(again) == set()
    await again.write(named(1))
    assert await again.read(names([1])) == named(1)


async def test_after_its_end_nothing_is_kept_or_found(opened: Open) -> None:
    disk = await opened()
    await disk.write(named(1))
    disk.close()
    await disk.write(named(2))
    assert await disk.read(names([1, 2])) == {}
    disk.forget(names([1]))


def test_a_header_is_what_it_was_or_none() -> None:
    header = Header(name(1), 16, block(1).checksum, SIZE)
    raw = header.pack()
    assert unpack(raw + b"more") == header
    assert unpack(raw[:-1]) is None
    for at in range(len(raw)):
        broken = bytearray(raw)
        broken[at] ^= 1
        assert unpack(bytes(broken)) is None
