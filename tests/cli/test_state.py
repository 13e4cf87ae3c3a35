"""The state file and its lock."""

import os
from pathlib import Path

import pytest

from xpod.cli.errors import CliError
from xpod.cli.process import ProcessRef, ref_of
from xpod.cli.state import STATE_FILE, MemberState, PodState, forget_state, locked, read_state, write_state


def _state(data: Path) -> PodState:
    me = ref_of(os.getpid())
    members = [
        MemberState("decode-0", "decode", me, "up", 1.5, 3, "exit status 1", "note"),
        MemberState("decode-1", "decode"),
        MemberState("nats-0", "nats", ProcessRef(me.pid, "ticks:1")),
    ]
    return PodState("pod", "/model", str(data), me, ["http://h:1"], ["nats://h:2"], "ready", "", members)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    state = _state(tmp_path)
    write_state(state)
    assert read_state(tmp_path) == state


def test_only_what_lives_is_alive(tmp_path: Path) -> None:
    state = _state(tmp_path)
    assert state.launcher_runs
    assert [member.id for member in state.living()] == ["decode-0"]
    assert state.member("nats-0") is state.members[2]
    assert state.member("nats-1") is None


def test_no_pod(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    assert read_state(tmp_path / "nowhere") is None
    forget_state(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"version": 99}'])
def test_a_damaged_file_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / STATE_FILE).write_text(content)
    with pytest.raises(CliError, match="is not a state file"):
        read_state(tmp_path)


def test_one_launcher_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(CliError, match=r"a pod runs in .* already"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CliError, match="cannot hold a pod"), locked(tmp_path / "file" / "below"):
        pass
