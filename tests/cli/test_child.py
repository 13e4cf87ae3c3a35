"""One member, kept alive."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from cli.cli_fakes import member, shell
from xpod.cli.child import Child
from xpod.cli.plan import MemberSpec
from xpod.cli.process import is_alive, send
from xpod.cli.restarts import Restarts

FAST = {"first": 0.0, "longest": 0.0}


class Watched:
    """A child whose changes can be waited for."""

    def __init__(self, spec: MemberSpec, data: Path, restarts: Restarts | None = None) -> None:
        self.changes: asyncio.Queue[str] = asyncio.Queue()
        restarts = restarts or Restarts(**FAST)
        self.child = Child(spec, data, data / "log", lambda _, text: self.changes.put_nowait(text), restarts)
        self.task = asyncio.create_task(self.child.run())

    async def until(self, text: str) -> str:
        async with asyncio.timeout(10):
            while text not in (change := await self.changes.get()):
                pass
        return change

    async def stop(self, grace: float = 10.0) -> None:
        self.child.stop(grace)
        await self.task


async def test_lives_until_it_is_stopped(tmp_path: Path) -> None:
    watched = Watched(member("decode-0"), tmp_path)
    await watched.until("up")
    process = watched.child.state.process
    assert process is not None
    assert is_alive(process)
    await watched.stop()
    assert not is_alive(process)
    assert (watched.child.state.state, watched.child.state.last_exit) == ("down", "killed by SIGTERM")
    assert watched.child.state.restarts == 0


async def test_is_started_again_when_it_is_killed(tmp_path: Path) -> None:
    watched = Watched(member("decode-0"), tmp_path)
    await watched.until("up")
    first = watched.child.state.process
    assert first is not None
    send(first, signal.SIGKILL)
    await watched.until("killed by SIGKILL, started again")
    await watched.until("up")
    assert watched.child.state.process != first
    assert watched.child.state.restarts == 1
    await watched.stop()


async def test_is_given_up_when_it_keeps_failing(tmp_path: Path) -> None:
    script = "echo going; echo 'RuntimeError: no luck' >&2; exit 1"
    watched = Watched(shell("decode-0", script), tmp_path, Restarts(**FAST, intensity=2))
    await watched.task
    state = watched.child.state
    assert watched.child.given_up
    assert (state.state, state.restarts) == ("down", 2)
    assert state.note == "it failed 3 times in 60 s (exit status 1): RuntimeError: no luck"


async def test_is_not_started_again_with_a_bad_configuration(tmp_path: Path) -> None:
    watched = Watched(shell("decode-0", "echo 'xpod decode: unknown option --x' >&2; exit 2"), tmp_path)
    await watched.task
    assert watched.child.given_up
    assert watched.child.state.note.endswith("xpod decode: unknown option --x")


async def test_a_command_that_does_not_exist_is_a_failure_like_any(tmp_path: Path) -> None:
    watched = Watched(member("decode-0", ["/no/such/program"]), tmp_path, Restarts(**FAST, intensity=1))
    await watched.task
    assert watched.child.given_up
    assert "/no/such/program: No such file or directory" in watched.child.state.note


async def test_who_does_not_listen_is_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    watched = Watched(shell("decode-0", f"trap '' TERM; : > {tmp_path}/fifo; exec sleep 600"), tmp_path)
    await asyncio.to_thread((tmp_path / "fifo").read_bytes)
    await watched.stop(grace=0.0)
    assert watched.child.state.last_exit == "killed by SIGKILL"


async def test_who_is_held_is_woken_to_end(tmp_path: Path) -> None:
    watched = Watched(member("decode-0"), tmp_path)
    await watched.until("up")
    assert watched.child.state.process is not None
    send(watched.child.state.process, signal.SIGSTOP)
    await watched.stop()
    assert watched.child.state.last_exit == "killed by SIGTERM"


@pytest.mark.parametrize("pause", [0.0, 30.0])
async def test_stops_also_while_it_waits_to_start_again(tmp_path: Path, pause: float) -> None:
    watched = Watched(shell("decode-0", "exit 0"), tmp_path, Restarts(first=pause, longest=pause))
    await watched.until("started again")
    async with asyncio.timeout(10):
        await watched.stop()
    assert watched.child.state.state == "down"


@pytest.mark.parametrize(
    ("name", "gives_way"),
    [("expert-0", True), ("prefill-0", True), ("decode-0", True), ("nats-0", False), ("router-0", False)],
)
async def test_who_loads_long_gives_way_when_it_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, gives_way: bool
) -> None:
    """Not at the first start, when nobody serves yet, and no NATS node: its clients are there at once."""
    asked: list[int] = []

    async def give_way(pid: int) -> None:
        asked.append(pid)

    monkeypatch.setattr("xpod.cli.child.give_way", give_way)
    watched = Watched(member(name), tmp_path)
    await watched.until("up")
    first = watched.child.state.process
    assert first is not None
    assert asked == []
    send(first, signal.SIGKILL)
    await watched.until("started again")
    await watched.until("up")
    second = watched.child.state.process
    assert second is not None
    await watched.stop()
    assert asked == ([second.pid] if gives_way else [])
