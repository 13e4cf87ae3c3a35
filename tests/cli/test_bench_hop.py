"""`xpod bench hop` as a user calls it, with a real pod of a tiny model."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from cli.conftest import Command
from cli.test_bench_compare import TINY
from xpod.cli.bench.hop import run
from xpod.cli.bench.hop.rounds import Exchange, Plan
from xpod.cli.bench.hop.split import PARTS
from xpod.cli.bench.make_model import ensure_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    ensure_model(directory, TINY)
    return directory


def test_a_pod_is_measured(command: Command, model: Path, tmp_path: Path) -> None:
    arguments = ("--model", str(model), "--rows", "1,300", "--rounds", "5", "--seed", "3")
    result = command("bench", "hop", *arguments, "--json", "--results", str(tmp_path / "results"))
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert not report["interrupted"]
    assert [(each["round"], each["rows"]) for each in report["exchanges"] if each["rows"] == 300] == [
        (0, 300),
        (4, 300),
    ]
    assert report["figures"]["1"]["whole"]["count"] + report["repeated"] == 5
    for each in report["exchanges"]:
        assert each["whole"] > each["rest"] > 0
        assert sum(each[part] for part in PARTS) == pytest.approx(each["whole"], abs=0.01)
        assert each["echo"] > 0
    assert report["figures"]["300"]["call_bytes"] > 300 * TINY.hidden * 2 / 2
    assert sum(report["pod"]["held"].values()) == 2 * TINY.layers * TINY.num_experts  # two copies
    assert report["pod"]["processes"]["expert"] == 2
    assert report["parameters"]["model"]["experts_per_token"] == TINY.experts_per_token
    (file,) = (tmp_path / "results").iterdir()
    assert file.name == f"{file.name[:18]}-hop-{report['versions']['commit'].removesuffix('+')}.json"
    assert json.loads(file.read_text()) == report
    assert not psutil.Process().children()


def test_ctrl_c_leaves_nothing_behind(command: Command, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(exchange: Exchange, plan: Plan, layers: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            exchange(plan.rows[0])

    monkeypatch.setattr(run, "warm_up", interrupt)
    result = command("bench", "hop", "--model", str(model), "--experts", "1")
    assert (result.returncode, result.stdout) == (130, "")
    assert not psutil.Process().children()


def test_nothing_measured_is_no_result(
    command: Command, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run.HopRun, "measure", lambda self: None)
    result = command("bench", "hop", "--model", str(model), "--results", str(tmp_path / "results"))
    assert (result.returncode, result.stdout) == (4, "")
    assert "in every exchange a call had to be made again" in result.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["--rows", "1,x"], 2, "--rows: '1,x' is not numbers from 1 to 4096, with commas"),
        (["--rows", "0"], 2, "--rows: '0' is not numbers"),
        (["--model", "/nowhere"], 3, "--model: model directory /nowhere does not exist"),
    ],
)
def test_what_cannot_be_is_one_line(command: Command, arguments: list[str], status: int, reason: str) -> None:
    result = command("bench", "hop", *arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
