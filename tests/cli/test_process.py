"""A process is its pid and its birth."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from xpod.cli.process import (
    LAUNCH_VARIABLE,
    ProcessRef,
    is_alive,
    is_stopped,
    launched_from,
    ref_of,
    send,
    stop_all,
    wait_gone,
)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_alive_until_killed_also_as_a_zombie(sleeper: subprocess.Popen[bytes]) -> None:
    ref = ref_of(sleeper.pid)
    assert is_alive(ref)
    assert send(ref, signal.SIGKILL)
    assert wait_gone([ref], 5.0) == [], "nobody has waited for it yet, and it is dead all the same"
    sleeper.wait()
    assert not is_alive(ref)
    assert not send(ref, signal.SIGKILL)


def test_somebody_else_with_the_same_pid_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    stranger = ProcessRef(sleeper.pid, "ticks:1")
    assert not is_alive(stranger)
    assert not send(stranger, signal.SIGKILL)
    stop_all([stranger], 0.0)
    assert sleeper.poll() is None


def test_the_birth_of_a_process_does_not_change() -> None:
    assert ref_of(os.getpid()) == ref_of(os.getpid())
    assert not is_alive(ref_of(2**22 + 1))


def test_stop_all_wakes_what_is_held(sleeper: subprocess.Popen[bytes]) -> None:
    ref = ref_of(sleeper.pid)
    send(ref, signal.SIGSTOP)
    os.waitpid(sleeper.pid, os.WUNTRACED)
    assert is_stopped(ref)
    stop_all([ref], 5.0)
    assert sleeper.wait() == -signal.SIGTERM


def test_stop_all_kills_what_does_not_listen() -> None:
    with subprocess.Popen(["sh", "-c", "trap '' TERM; echo; exec sleep 600"], stdout=-1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        stop_all([ref_of(process.pid)], 0.0)
        assert process.wait() == -signal.SIGKILL


def test_members_are_found_by_their_mark(tmp_path: Path) -> None:
    environment = os.environ | {LAUNCH_VARIABLE: str(tmp_path)}
    with subprocess.Popen(["sleep", "600"], env=environment) as process:
        assert [ref.pid for ref in launched_from(tmp_path)] == [process.pid]
        assert launched_from(tmp_path / "other") == []
        process.kill()
