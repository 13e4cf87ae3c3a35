"""A process that starts again has a smaller share of processors for a while."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from xpod.cli import giving_way
from xpod.cli.giving_way import NICE, give_way


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with one process, 7."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "autogroup").write_text("/autogroup-1 nice 0")
    return tmp_path


async def test_the_share_is_smaller_for_a_while(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    async def pause(seconds: float) -> None:
        seen.append((seconds, (proc / "7" / "autogroup").read_text()))

    monkeypatch.setattr(giving_way.asyncio, "sleep", pause)
    await give_way(7, proc)
    assert seen == [(giving_way.SECONDS, str(NICE))]
    assert (proc / "7" / "autogroup").read_text() == "0"


async def test_who_ends_meanwhile_leaves_nothing_behind(proc: Path) -> None:
    giving = asyncio.create_task(give_way(7, proc))
    await asyncio.sleep(0)
    assert (proc / "7" / "autogroup").read_text() == str(NICE)
    giving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await giving
    assert (proc / "7" / "autogroup").read_text() == "0"


async def test_a_wish_too_soon_after_another_is_said_again(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = iter([True, False, True, False])
    written = []

    def write(path: Path, text: str) -> int:
        if next(refused):
            raise BlockingIOError
        written.append(text)
        return len(text)

    async def pause(seconds: float) -> None:
        pass

    monkeypatch.setattr(Path, "write_text", write)
    monkeypatch.setattr(giving_way.asyncio, "sleep", pause)
    await give_way(7, proc)
    assert written == [str(NICE), "0"]


async def test_where_there_are_no_such_shares_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(giving_way, "SECONDS", 0.0)
    await give_way(7, tmp_path)
    assert not (tmp_path / "7").exists()
