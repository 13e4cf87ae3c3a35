"""Conversations with servers on sockets: what is asked, compared and counted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import pytest

from cli.bench_reusing import FakePods, Reusing
from cli.bench_server import Request, serving
from cli.conftest import Command
from cli.test_bench_compare import ONE_OF_EACH, TINY
from xpod.cli.bench.concluding import Output, conclude
from xpod.cli.bench.conversation import Shape, conversations
from xpod.cli.bench.make_model import ensure_model
from xpod.cli.bench.pods import Serving
from xpod.cli.bench.result_file import ResultFile
from xpod.cli.bench.talk import talking
from xpod.cli.bench.turns.combinations import combinations
from xpod.cli.bench.turns.run import Plan, TurnsRun
from xpod.cli.bench.turns.table import as_text
from xpod.cli.bench.turns_load import Turn, TurnsLoad
from xpod.cli.errors import CliError
from xpod.cli.reuse import Reuse

Json = dict[str, Any]
SHAPE = Shape(2, 3, 40, 20, 8, 5, think=0.0)
QUICK = (
    *("--conversations", "2", "--turns", "3", "--prompt-tokens", "40", "--shared-tokens", "20"),
    *("--turn-tokens", "8", "--answer-tokens", "5", "--think", "0", "--seed", "3"),
)


def measured(pods: FakePods, *cachings: str, rounds: int = 1) -> TurnsRun:
    run = TurnsRun(pods, Plan(combinations(cachings, (), False, Reuse()), rounds, SHAPE, 3, 500))
    run.measure()
    return run


def test_a_conversation_asks_its_router_for_all_that_was_said() -> None:
    pods = FakePods()
    measured(pods, "full")
    for index, server in enumerate(pods.servers[0]):
        bodies = [body for body in server.bodies if body.get("prompt_cache_key") == f"conversation-3-{index}"]
        assert [len(body["prompt"]) for body in bodies] == [40, 53, 66]
        answered = (sum(bodies[0]["prompt"]) * 31) % 997
        assert bodies[1]["prompt"][40:45] == [(answered + each) % 997 for each in range(5)]
        assert all(body["max_tokens"] == 5 and body["ignore_eos"] and body["stream"] for body in bodies)
        assert all(body["stream_options"] == {"include_usage": True} for body in bodies)


def test_a_warm_up_is_of_nobody_s_conversation() -> None:
    pods = FakePods(routers=1)
    run = measured(pods, "full")
    (server,) = pods.servers[0]
    others = [body for body in server.bodies if not body.get("prompt_cache_key", "").startswith("conv")]
    assert [body["max_tokens"] for body in others] == [1] + [8] * 4
    assert len({str(body["prompt"]) for body in others[1:]}) == 4
    assert run.runs[0]["requests"] == 6


def test_combinations_are_compared_in_turn() -> None:
    pods = FakePods()
    run = measured(pods, "basic", "prefill", "full", rounds=2)
    assert [caching for caching, _ in pods.started] == [
        "basic",
        "prefill",
        "full",
        "prefill",
        "full",
        "basic",
    ]
    parts = run.parts()
    basic, prefill, _ = parts["combinations"]
    assert basic["hit_rate"]["median"] == 0
    assert basic["computed_tokens"]["median"] == 2 * (40 + 53 + 66)
    assert basic["to_basic"]["computed_tokens"] is None
    assert prefill["computed_tokens"]["rounds"] == 2
    assert prefill["to_basic"]["computed_tokens"]["median"] < 0.7
    assert len(parts["requests"]) == 6 * 6
    assert run.complaint() == ""
    assert json.loads(json.dumps(parts)) == parts


def test_answers_have_to_be_equal() -> None:
    pods = FakePods(routers=1, odd={"full": Reusing(offset=1, wrong_from=5 + 4)})
    run = measured(pods, "basic", "full")
    assert [each["different"] for each in run.runs] == [0, 2]
    assert run.complaint() == "2 of 12 answers differ"


def failing(request: Request) -> None:
    if request.body.get("prompt_cache_key") == "conversation-3-1" and len(request.body["prompt"]) > 40:
        request.refuse(503, "no decode worker")
    else:
        Reusing()(request)


def test_a_conversation_ends_with_what_failed() -> None:
    run = measured(FakePods(odd={"full": failing}), "basic", "full")
    assert [run.runs[1][name] for name in ("requests", "failed", "unasked")] == [5, 1, 1]
    assert run.complaint() == "1 of 11 requests failed"
    line = run.parts()["combinations"][1]
    assert line["computed_tokens"] is None, "it is not the same load"
    assert [each["error"] for each in run.requests if each["error"]] == ["HTTP 503: no decode worker"]


def short(request: Request) -> None:
    request.body["max_tokens"] = min(4, request.body["max_tokens"])
    Reusing()(request)


def test_a_short_answer_is_a_failure() -> None:
    with pytest.raises(CliError, match="warming up failed: ended early: 4 tokens instead of 8"):
        measured(FakePods(odd={"full": short}), "full")


def test_the_load_can_be_watched() -> None:
    """So that something can be broken meanwhile."""
    seen: list[Turn] = []

    async def held(url: str) -> TurnsLoad:
        async with talking((url,)) as talk:
            load = TurnsLoad(talk, seen.append)
            assert await load.run(conversations(SHAPE, 3, 500)) is load.turns
            return load

    with serving(Reusing()) as server:
        load = asyncio.run(held(server.url))
    assert seen == load.turns
    assert sorted((turn.conversation, turn.number) for turn in seen) == [
        (conversation, number) for conversation in range(2) for number in range(3)
    ]


def without_key(request: Request) -> None:
    if "prompt_cache_key" in request.body:
        request.refuse(400, "prompt_cache_key: not supported")
    else:
        Reusing()(request)


def test_a_pod_that_runs_already(command: Command, tmp_path: Path) -> None:
    with serving(without_key) as server:
        arguments = ("--url", server.url, "--json", "--results", str(tmp_path))
        result = command("bench", "turns", *QUICK, *arguments)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    (line,) = report["combinations"]
    assert (line["caching"], line["routing"]) == ("as given", "as given")
    assert report["runs"][0]["extensions"] == ["return_token_ids", "ignore_eos", "stream_options"]
    assert report["parameters"]["turns"] == 3
    (file,) = tmp_path.iterdir()
    assert "-turns-" in file.name
    assert json.loads(file.read_text()) == report


def test_a_pod_of_its_own(command: Command, tmp_path: Path) -> None:
    ensure_model(tmp_path / "tiny", TINY)
    wanted = ("--model", str(tmp_path / "tiny"), *ONE_OF_EACH, "--caching", "full", "--mempool-bytes", "1M")
    result = command("bench", "turns", *QUICK, *wanted, "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    (run,) = report["runs"]
    assert run["processes"]["prefill"] == 1
    assert run["hit_rate"] > 0
    assert report["parameters"]["combinations"][0]["mempool_bytes"] == 1 << 20
    assert report["parameters"]["model"] == {"name": "tiny"}
    assert not psutil.Process().children()


def test_text_for_people(command: Command) -> None:
    with serving(Reusing()) as server:
        result = command("bench", "turns", *QUICK, "--url", server.url)
    assert result.returncode == 0
    header, line, *_ = result.stdout.splitlines()
    assert header.split()[:4] == ["caching", "routing", "computed", "hit"]
    assert line.startswith("as given")


def test_failures_are_the_exit_code(command: Command) -> None:
    with serving(failing) as server:
        result = command("bench", "turns", *QUICK, "--url", server.url, "--json")
    assert result.returncode == 4
    assert result.stderr.endswith("xpod: 1 of 5 requests failed\n")
    assert json.loads(result.stdout)["combinations"][0]["failed"] == 1


def test_a_server_that_names_no_tokens(command: Command) -> None:
    def nameless(request: Request) -> None:
        if "return_token_ids" in request.body:
            request.refuse(400, "return_token_ids: not supported")
        else:
            Reusing()(request)

    with serving(nameless) as server:
        result = command("bench", "turns", *QUICK, "--url", server.url)
    assert (result.returncode, result.stdout) == (4, "")
    assert "does not take return_token_ids" in result.stderr


def test_ctrl_c_before_anything_was_found(command: Command) -> None:
    over = Event()

    def interrupt(request: Request) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        over.wait(10)

    with serving(interrupt) as server:
        result = command("bench", "turns", *QUICK, "--url", server.url)
        over.set()
    assert (result.returncode, result.stdout) == (130, "")


class Interrupted(FakePods):
    """By a user who has seen enough."""

    @contextmanager
    def running(self, reuse: Reuse) -> Iterator[Serving]:
        if reuse.caching == "full":
            raise KeyboardInterrupt
        with super().running(reuse) as serving:
            yield serving


def test_ctrl_c_shows_what_was_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = TurnsRun(Interrupted(), Plan(combinations(["basic", "full"], (), False, Reuse()), 1, SHAPE, 3, 500))
    assert conclude(run, ResultFile("turns", 1), Output(as_text, True, tmp_path / "results")) == 130
    report = json.loads(capsys.readouterr().out)
    assert report["interrupted"]
    assert [line["caching"] for line in report["combinations"]] == ["basic"]
    assert not list(tmp_path.iterdir()), "half a measurement is no result"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--caching", "none"], "--caching: 'none' is not one of basic, prefill, decode, full"),
        (["--routing", "random"], "--routing: 'random' is not one of prompt-tree"),
        (["--all", "--caching", "full"], "--all excludes --caching and --routing"),
        (["--mempool-bytes", "lots"], "--mempool-bytes: 'lots' is not a size"),
        (["--shared-tokens", "999"], "--shared-tokens"),
        (["--url", "http://h", "--rounds", "2"], "--url: a pod that runs already has"),
        (["--url", "http://h", "--routing", "session"], "--url: a pod that runs already has"),
        (["--url", "http://h", "--prefill", "3"], "--url: a pod that runs already has its counts"),
        (["--url", "h"], "--url: 'h' is not of the form"),
    ],
)
def test_what_cannot_be_is_one_line(command: Command, arguments: list[str], reason: str) -> None:
    result = command("bench", "turns", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
