"""Local processes as a target."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from xpod.cli.chaos.local_pod import LocalPod
from xpod.cli.chaos.target import POD
from xpod.cli.errors import CliError
from xpod.cli.own_pod import OwnPod
from xpod.cli.process import ref_of
from xpod.cli.state import MemberState, PodState, write_state


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
