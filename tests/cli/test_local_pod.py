"""Local processes as a target."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from xpod.cli.chaos.local_pod import LocalPod
from xpod.cli.chaos.opening import tell_logs
from xpod.cli.chaos.target import POD
from xpod.cli.errors import CliError
from xpod.cli.own_pod import OwnPod
from xpod.cli.process import ref_of
from xpod.cli.state import MemberState, PodState, logs_dir, write_state


def test_who_was_killed_does_not_run_any_more(tmp_path: Path) -> None:
    """Else a look right behind the signal would see a pod that is whole."""
    names = ["decode-0", "decode-1", "nats-0"]
    sleepers = [subprocess.Popen(["sleep", "600"]) for _ in names]
    members = [
        MemberState(name, name.rpartition("-")[0], ref_of(sleeper.pid))
        for name, sleeper in zip(names, sleepers, strict=True)
    ]
    write_state(PodState("pod", "m", str(tmp_path), ref_of(os.getpid()), [], [], members=members))
    pod = LocalPod(OwnPod(tmp_path), own=True)
    try:
        assert pod.members("decode") == ["decode-0", "decode-1"]
        pod.hit("decode-0", "KILL")
        assert pod.members("decode") == ["decode-1"]
        with pytest.raises(CliError, match="decode-0 does not run"):
            pod.hit("decode-0", "KILL")
        pod.hit(POD, "KILL")
        assert pod.members("decode") == []
        assert pod.members("nats") == ["nats-0"]
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()


@pytest.mark.parametrize("own", [True, False], ids=["its own", "somebody's"])
def test_the_logs_of_a_pod_of_its_own_outlive_it(
    tmp_path: Path, own: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks into a wrong stream needs them, and the pod's directory goes with the pod."""
    data, temporary = tmp_path / "pod", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    logs_dir(data).mkdir(parents=True)
    (logs_dir(data) / "router-0.log").write_text("why\n")
    write_state(PodState("pod", "m", str(data), ref_of(os.getpid()), [], []))
    tell_logs(LocalPod(OwnPod(data), own=own))
    kept = list(temporary.rglob("router-0.log"))
    assert [each.read_text() for each in kept] == (["why\n"] if own else [])
    assert capsys.readouterr().err == (f"the pod's logs are kept in {kept[0].parent}\n" if own else "")
