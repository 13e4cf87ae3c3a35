"""`xpod bench compare` as a user calls it: servers on sockets, a real pod, and real peers."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from cli.bench_server import Request, Server, serving, token, usage, whole
from cli.conftest import Command
from xpod.cli.bench.compare.memory import pss
from xpod.cli.bench.make_model import ensure_model
from xpod.cli.bench.recipe import Recipe

Json = dict[str, Any]
TINY = Recipe(
    layers=1,
    hidden=32,
    num_experts=4,
    experts_per_token=2,
    expert_width=16,
    heads=2,
    kv_heads=1,
    head_dim=16,
    vocab=300,
    max_positions=512,
)
ONE_OF_EACH = [
    option
    for kind in ("routers", "prefill", "decode", "experts", "mempool", "supervisors")
    for option in (f"--{kind}", "1")
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    ensure_model(directory, TINY)
    return directory


def test_a_pod_and_both_peers(command: Command, model: Path, tmp_path: Path) -> None:
    peers = ("--peer", "transformers", "--peer", "reference", "--peer-threads", "1")
    arguments = ("--model", str(model), *peers, "--rounds", "1")
    results = ("--case", "prefill", "--case", "decode-32", "--json", "--results", str(tmp_path / "results"))
    result = command("bench", "compare", *arguments, *ONE_OF_EACH, *results)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert list(report["contenders"]) == ["pod", "transformers", "reference"]
    assert len(report["runs"]) == 3 * 2
    for found in report["figures"].values():
        assert all(each["median"] > 0 for each in found["contenders"].values())
        assert set(found["ratios"]) == {"transformers", "reference"}
    assert report["tax"]["rounds"] == 1
    assert report["contenders"]["transformers"]["dtype"] == "torch.bfloat16"
    assert report["contenders"]["pod"]["processes"]["expert"] == 1
    if pss(os.getpid()) is not None:
        assert set(report["memory"]["pod"]["kinds"]) == set(report["contenders"]["pod"]["processes"])
    (file,) = (tmp_path / "results").iterdir()
    assert file.name == f"{file.name[:18]}-compare-{report['versions']['commit'].removesuffix('+')}.json"
    assert json.loads(file.read_text()) == report
    assert not psutil.Process().children()


def compared(command: Command, model: Path, *arguments: str) -> tuple[int, Json, str]:
    result = command("bench", "compare", "--model", str(model), "--json", "--rounds", "2", *arguments)
    return result.returncode, json.loads(result.stdout), result.stderr


def prompts_of(server: Server) -> list[str]:
    """In no order: those of a case come at once."""
    return sorted(str(body["prompt"]) for body in server.bodies)


def test_servers_that_run_already(command: Command, model: Path) -> None:
    with serving() as ours, serving() as other:
        arguments = ("--url", ours.url, "--peer", f"llama-server={other.url}", "--seed", "3")
        status, report, stderr = compared(command, model, *arguments)
    assert status == 0, stderr
    assert list(report["contenders"]) == ["pod", "llama-server"]
    assert prompts_of(ours) == prompts_of(other)
    asked = [body for body in other.bodies if body["max_tokens"] == 64]
    assert len(asked) == 2 * (1 + 8 + 32)
    assert all(
        body["ignore_eos"] and body["temperature"] == 0 and len(body["prompt"]) == 64 for body in asked
    )
    steady = report["figures"]["decode-8 steady"]["contenders"]["pod"]
    assert steady is None, "whole answers come at once, so there is no time in which all decode"
    assert report["figures"]["prefill"]["ratios"]["llama-server"]["rounds"] == 2
    assert report["memory"] == {}
    assert "round 2 of 2: llama-server\n" in stderr


def refusing(request: Request) -> None:
    if request.body["max_tokens"] == 64:
        request.refuse(429, "too many")
    else:
        whole(request)


def cached(request: Request) -> None:
    tokens = [token(ids=[7], finish="length")]
    request.say(*tokens, usage(len(request.body["prompt"]), 1, cached=16), "[DONE]")


def short(request: Request) -> None:
    request.say(token(ids=[7], finish="stop"), usage(64, 1), "[DONE]")


@pytest.mark.parametrize(
    ("respond", "case", "message"),
    [
        (refusing, "decode-1", "HTTP 429: too many"),
        (cached, "prefill", "128 prompt tokens came from a cache"),
        (short, "decode-8", "8 of 8 answers ended early"),
    ],
)
def test_what_was_not_the_case_is_no_figure(
    command: Command, model: Path, respond: Any, case: str, message: str
) -> None:
    with serving(respond) as server:
        status, report, stderr = compared(command, model, "--url", server.url, "--case", case)
    assert status == 4
    assert stderr.endswith("xpod: 2 of 2 runs failed\n")
    assert {error for run in report["runs"] for error in run["errors"]} == {message}
    assert all(found["contenders"]["pod"] is None for found in report["figures"].values())


def test_ctrl_c_shows_what_was_measured(command: Command, model: Path) -> None:
    def interrupt(request: Request) -> None:
        if request.body["max_tokens"] == 64:
            os.kill(os.getpid(), signal.SIGINT)
        whole(request)

    with serving(interrupt) as server:
        status, report, _ = compared(command, model, "--url", server.url)
    assert status == 130
    assert report["interrupted"]
    assert [run["case"] for run in report["runs"]] == ["prefill"]


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["--peer", "vllm"], 2, "--peer: 'vllm' is not one of transformers, reference, bare, NAME=URL"),
        (["--peer", "pod=http://h"], 2, "--peer: 'pod=http://h'"),
        (["--peer", "llama-server=h"], 2, "'h' is not of the form http://host:port"),
        (["--peer", "reference", "--peer", "reference"], 2, "--peer: reference is given twice"),
        (["--case", "decode-9"], 2, "--case: 'decode-9'"),
        (["--url", "http://h", "--experts", "2"], 2, "--url: a pod that runs already has its counts"),
        (["--url", "http://127.0.0.1:1"], 3, "http://127.0.0.1:1 does not answer"),
        (["--model", "/nowhere"], 3, "--model: model directory /nowhere does not exist"),
    ],
)
def test_what_cannot_be_is_one_line(
    command: Command, model: Path, arguments: list[str], status: int, reason: str
) -> None:
    result = command("bench", "compare", "--model", str(model), *arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
