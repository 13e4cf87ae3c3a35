"""`xpod doctor`: every verdict, and the whole on this machine."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from xpod.cli.doctor import machine
from xpod.cli.doctor.check import Check
from xpod.cli.doctor.pod import this_pod
from xpod.cli.errors import CliError
from xpod.cli.main import run_command

GIB = 1 << 30
MB = 1_000_000


def other_torch(name: str) -> str:
    return "2.0.0+cu126" if name == "torch" else version(name)


def no_numpy(name: str) -> str:
    if name == "numpy":
        raise PackageNotFoundError(name)
    return version(name)


def taken() -> None:
    raise CliError("--port: port 8000 on 127.0.0.1 is taken")


def no_model(name: str) -> Path:
    raise CliError(f"--model: {name} has no config.json")


def no_broker() -> Path:
    raise FileNotFoundError("nats-server is missing")


# what is looked at: the verdict, and a word of what is said
VERDICTS: dict[str, tuple[Check, str, str]] = {
    "python": (machine.python((3, 11)), "ok", "3.11"),
    "an old python": (machine.python((3, 10)), "bad", "3.10"),
    "packages": (machine.packages(), "ok", "as pinned"),
    "another torch": (machine.packages(other_torch), "bad", "torch 2.0.0+cu126, not "),
    "a package missing": (machine.packages(no_numpy), "bad", "numpy missing"),
    "processors": (machine.processors(2, machine.KERNEL_FLAGS | {"sse"}), "ok", "2, with"),
    "an older processor": (machine.processors(8, frozenset({"avx2"})), "note", "8, without"),
    "one core": (machine.processors(1, machine.KERNEL_FLAGS), "note", "1, with"),
    "memory": (machine.memory(8 * GIB, GIB, 7), "ok", "8.0 GiB free"),
    "little memory": (machine.memory(2 * GIB, GIB, 7), "bad", "about 3.0 GiB needed"),
    "open files": (machine.open_files(4096), "ok", "4096"),
    "few open files": (machine.open_files(256), "bad", "256"),
    "shared memory": (machine.shared_memory(GIB), "ok", "1.0 GiB"),
    "little shared memory": (machine.shared_memory(64 << 20), "note", "0.06 GiB"),
    "no shared memory": (machine.shared_memory(None), "note", "no /dev/shm"),
    "disk": (machine.disk(Path("/d"), 9 * GIB), "ok", "9.0 GiB free for /d"),
    "little disk": (machine.disk(Path("/d"), GIB), "note", "1.0 GiB"),
    "ports": (machine.ports(lambda: None), "ok", "free"),
    "ports are taken": (machine.ports(taken), "bad", "8000"),
    "no broker": (machine.broker(no_broker), "bad", "nats-server is missing"),
    "a broker that does not run": (machine.broker(lambda: Path("/bin/false")), "bad", "/bin/false"),
    "no model": (machine.model("x", no_model)[0], "bad", "x has no config.json"),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_a_machine_is_judged(case: str) -> None:
    check, verdict, found = VERDICTS[case]
    assert check.verdict == verdict
    assert found in check.found
    assert bool(check.advice) == (verdict != "ok")


def test_the_flags_are_those_of_a_processor(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nflags\t\t: sse avx2\n\nprocessor\t: 1\nflags\t\t: sse\n"
    )
    assert machine.cpu_flags(tmp_path / "cpuinfo") == {"sse", "avx2"}
    assert machine.cpu_flags(tmp_path / "none") == frozenset()


def member(id: str, state: str = "up", **detail: Any) -> dict[str, Any]:
    return {"id": id, "kind": id[:-2], "state": state, "pid": 1, "since": 0.0, "detail": detail}


def pod(*members: dict[str, Any], ready: bool = True, held: int = 2) -> dict[str, Any]:
    experts = {"0": {"0": ["s"] * held, "1": ["s"] * 2}}
    return {
        "pod": "p",
        "model": "m",
        "ready": ready,
        "members": members,
        "placement": {"epoch": 1, "experts": experts},
    }


DECODE = member("decode-0", fingerprint="a")
# a pod's status, why no router answered, and what is not well
PODS: dict[str, tuple[dict[str, Any], str, list[tuple[str, str]]]] = {
    "well": (pod(DECODE), "", []),
    "not ready": (pod(DECODE, ready=False), "", [("bad", "not ready")]),
    "no router": (pod(DECODE, ready=False), "no router answers", [("bad", "no router answers")]),
    "one down": (
        pod(DECODE, member("expert-0", "down", note="killed")),
        "",
        [("bad", "expert-0 is down: killed")],
    ),
    "one suspect": (pod(DECODE, member("expert-0", "suspect")), "", [("note", "expert-0 is suspect")]),
    "restarted often": (
        pod(DECODE, member("expert-0", restarts=4, last_exit="exit code 1")),
        "",
        [("note", "expert-0 was started again 4 times (exit code 1)")],
    ),
    "other numerics": (
        pod(DECODE, member("decode-1", fingerprint="a"), member("prefill-0", fingerprint="b")),
        "",
        [("bad", "prefill-0 compute otherwise than 2 others")],
    ),
    "held once": (pod(DECODE, held=1), "", [("note", "1 of 2 are held once")]),
    "held by nobody": (pod(DECODE, held=0), "", [("bad", "1 are held by nobody")]),
}


@pytest.mark.parametrize("case", PODS)
def test_a_pod_is_judged(case: str) -> None:
    status, problem, wrong = PODS[case]
    checks = list(this_pod(status, problem))
    assert [(check.verdict, check.found) for check in checks if check.verdict != "ok"] == wrong
    assert all(check.advice for check in checks if check.verdict != "ok")


def test_the_whole_is_told_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run_command(["doctor", "--json", "--port", "0", "--data", str(tmp_path / "data")])
    checks = json.loads(capsys.readouterr().out)
    assert code == any(check["verdict"] == "bad" for check in checks)
    names = {check["name"]: check for check in checks}
    assert names["model"]["verdict"] == "ok"
    assert names["nats-server"]["found"].startswith("v")
    assert "pod" not in names
    assert not (tmp_path / "data").exists()


def test_a_wrong_model_is_an_illness(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["doctor", "--model", str(tmp_path), "--port", "0", "--data", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "config.json" in told
    assert "bad  model" in told
