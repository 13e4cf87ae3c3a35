"""A whole pod of stand-ins."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cli.cli_fakes import member, plan_for, shell
from xpod.cli.errors import CliError
from xpod.cli.launcher import Launcher
from xpod.cli.plan import LaunchPlan
from xpod.cli.process import is_alive, send
from xpod.cli.restarts import Restarts
from xpod.cli.state import logs_dir, read_state


async def ready() -> str:
    return ""


async def never() -> str:
    return "no decode worker"


class Running:
    """A launcher that runs, and all that it reported."""

    def __init__(
        self, plan: LaunchPlan, probe: Callable[[], Awaitable[str]] = ready, log_bytes: int = 1 << 20
    ) -> None:
        self.events: list[tuple[str, str]] = []
        self.changed = asyncio.Event()
        self.launcher = Launcher(
            plan,
            probe,
            self.report,
            restarts=lambda: Restarts(first=0.0, intensity=2),
            log_bytes=log_bytes,
        )
        self.task = asyncio.create_task(self.launcher.run())

    def report(self, event: str, text: str) -> None:
        self.events.append((event, text))
        self.changed.set()

    async def until(self, event: tuple[str, str]) -> None:
        async with asyncio.timeout(10):
            while event not in self.events:
                self.changed.clear()
                await self.changed.wait()

    async def stop(self) -> None:
        self.launcher.stop()
        await self.task


async def test_writes_down_what_runs_and_forgets_it_afterwards(tmp_path: Path) -> None:
    running = Running(plan_for(tmp_path, member("nats-0"), member("decode-0"), endpoints=["http://h:1"]))
    await running.until(("ready", ""))
    state = read_state(tmp_path)
    assert state is not None
    assert state.phase == "ready"
    assert state.launcher_runs
    assert state.endpoints == ["http://h:1"]
    assert [each.id for each in state.living()] == ["nats-0", "decode-0"]
    await running.stop()
    assert read_state(tmp_path) is None
    assert not any(each.process and is_alive(each.process) for each in state.members)


async def test_logs_do_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xpod.cli.launcher.LOGS_SECONDS", 0.01)
    running = Running(plan_for(tmp_path, shell("decode-0", "echo hello; exec sleep 60")), log_bytes=3)
    await running.until(("member", "decode-0 has a long log, which begins anew"))
    assert (logs_dir(tmp_path) / "decode-0.log.1").read_text() == "hello\n"
    assert (logs_dir(tmp_path) / "decode-0.log").read_text() == ""
    await running.stop()


async def test_members_share_memory_for_as_long_as_the_pod_runs(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    running = Running(replace(plan_for(tmp_path, member("decode-0")), frames=str(shared)))
    await running.until(("ready", ""))
    assert shared.is_dir()
    (shared / "00.frames").write_bytes(b"of a member that was killed")
    await running.stop()
    assert not shared.exists()


async def test_a_pod_without_shared_memory_says_so_and_runs(tmp_path: Path) -> None:
    running = Running(replace(plan_for(tmp_path, member("decode-0")), frames=str(tmp_path / "no" / "where")))
    await running.until(("ready", ""))
    await running.stop()
    assert any("memory cannot be shared" in text for _, text in running.events)


async def test_drains_routers_first_and_nats_last(tmp_path: Path) -> None:
    names = ["nats-0", "mempool-0", "expert-0", "prefill-0", "decode-0", "supervisor-0", "router-0"]
    running = Running(plan_for(tmp_path, *(member(name) for name in names)))
    await running.until(("ready", ""))
    await running.stop()
    drained = [text.split()[0] for event, text in running.events if text.endswith("draining")]
    assert sorted(drained[:2]) == ["router-0", "supervisor-0"]
    assert sorted(drained[2:4]) == ["decode-0", "prefill-0"]
    assert sorted(drained[4:6]) == ["expert-0", "mempool-0"]
    assert drained[6:] == ["nats-0"]


async def test_a_member_that_cannot_start_ends_the_start(tmp_path: Path) -> None:
    broken = shell("decode-0", "echo 'xpod decode decode-0: no such device' >&2; exit 1")
    running = Running(plan_for(tmp_path, member("nats-0"), broken), never)
    with pytest.raises(CliError, match=r"decode-0: it failed 3 times .*no such device"):
        await running.task
    assert read_state(tmp_path) is None
    assert ("member", "nats-0 killed by SIGTERM") in running.events


async def test_not_ready_in_time_says_why(tmp_path: Path) -> None:
    running = Running(plan_for(tmp_path, member("decode-0"), seconds=0.5), never)
    with pytest.raises(CliError, match=r"not ready after 0\.5 s: no decode worker"):
        await running.task


async def test_stops_while_it_is_not_ready_yet(tmp_path: Path) -> None:
    running = Running(plan_for(tmp_path, member("decode-0")), never)
    await running.until(("member", "decode-0 up"))
    await running.stop()
    assert ("ready", "") not in running.events


async def test_a_failing_member_of_a_pod_that_serves_is_given_up_and_shown(tmp_path: Path) -> None:
    running = Running(
        plan_for(
            tmp_path,
            member("decode-0"),
            shell("decode-1", f"test -e {tmp_path}/go && exit 1; exec sleep 600"),
        )
    )
    await running.until(("ready", ""))
    await running.until(("member", "decode-1 up"))
    (tmp_path / "go").touch()
    victim = running.launcher.children[1].state.process
    assert victim is not None
    send(victim, signal.SIGKILL)
    async with asyncio.timeout(10):
        while not running.launcher.children[1].given_up:
            running.changed.clear()
            await running.changed.wait()
    state = read_state(tmp_path)
    assert state is not None
    assert [each.id for each in state.living()] == ["decode-0"]
    assert state.members[1].note.startswith("it failed 3 times")
    await running.stop()


async def test_the_logs_of_the_last_pod_are_set_aside(tmp_path: Path) -> None:
    logs = logs_dir(tmp_path)
    logs.mkdir()
    (logs / "decode-0.log").write_text("old")
    running = Running(plan_for(tmp_path, shell("decode-0", "echo new; exec sleep 600")))
    await running.until(("ready", ""))
    await running.stop()
    assert (logs / "decode-0.log.old").read_text() == "old"
    assert "old" not in (logs / "decode-0.log").read_text()
