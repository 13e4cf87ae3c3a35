"""Cold, warm and repeated prompts, asked of servers on sockets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.bench_reusing import FakePods, Reusing
from cli.bench_server import Request, serving
from cli.conftest import Command
from xpod.cli.bench.prefix.run import Lengths, Plan, PrefixRun, Variant, bits
from xpod.cli.bench.prefix.summary import summary
from xpod.cli.bench.trace import Trace
from xpod.cli.reuse import Reuse

Json = dict[str, Any]
VARIANTS = (Variant("tree", Reuse()), Variant("round", Reuse("round-robin", "prefill"), in_turn=False))


def plan(*variants: Variant, rounds: int = 2) -> Plan:
    return Plan(variants or VARIANTS, rounds, Lengths(64, 32, 4), 1, 500)


def asked(server: Any) -> list[list[int]]:
    return [body["prompt"] for body in server.bodies if body["max_tokens"] == 4]


def test_prompts() -> None:
    cold, warm, again = plan().prompts("tree", 0).values()
    assert cold == again
    assert (cold[:64], len(cold), len(warm)) == (warm[:64], 96, 96)
    assert cold[64:] != warm[64:]
    others = [plan().prompts("tree", 1)["cold"], plan().prompts("round", 0)["cold"]]
    assert all(other[:16] != cold[:16] for other in others)


def test_what_is_known_is_counted() -> None:
    pods = FakePods()
    run = PrefixRun(pods, plan())
    run.measure()
    figures = run.parts()["figures"]
    assert list(figures) == ["tree", "round"]
    cached = figures["tree"]["cached_tokens"]
    assert [cached[name]["median"] for name in ("cold", "warm", "again")] == [0, 64, 80]
    assert figures["tree"]["to_cold"]["warm"]["rounds"] == 2
    assert run.complaint() == ""


def test_requests_go_to_different_routers_or_to_one() -> None:
    pods = FakePods()
    PrefixRun(pods, plan()).measure()
    (tree, other), (one, none) = pods.servers
    assert [len(asked(server)) for server in (tree, other, one, none)] == [3, 3, 6, 0]
    assert all(body["logprobs"] == 0 for body in tree.bodies if body["max_tokens"] == 4)


def test_the_same_prompt_has_the_same_answer() -> None:
    pods = FakePods(routers=1, odd={"full": Reusing(offset=1, wrong_from=5 + 5)})
    run = PrefixRun(pods, plan(VARIANTS[0]))
    run.measure()
    assert run.complaint() == "1 of 6 answers differ"
    assert run.parts()["figures"]["tree"]["different"] == 1


def test_every_bit_of_a_logprob_counts() -> None:
    one, other = (Trace(0.0, tokens=[1], logprobs=[value]) for value in (0.1 + 0.2, 0.3))
    assert bits(one) == bits(Trace(0.0, tokens=[1], logprobs=[0.1 + 0.2])) != bits(other)
    assert bits(one) != bits(Trace(0.0, tokens=[2], logprobs=one.logprobs))


def test_failures_are_in_no_figure() -> None:
    records = [
        {"variant": "v", "round": number, "request": name, "ttft_ms": ttft, "cached_tokens": 0}
        | {"error": None if ttft else "timeout: x", "different": False}
        for number, times in enumerate([(8.0, 2.0, 4.0), (8.0, None, 2.0)])
        for name, ttft in zip(("cold", "warm", "again"), times, strict=True)
    ]
    found = summary(records)["v"]
    assert found["failed"] == 1
    assert found["to_cold"]["warm"] == {"median": 0.25, "min": 0.25, "max": 0.25, "rounds": 1}
    assert found["to_cold"]["again"]["median"] == 0.375


QUICK = ("--rounds", "2", "--prefix-tokens", "64", "--seed", "1")


def test_a_pod_that_runs_already(command: Command, tmp_path: Path) -> None:
    with serving(Reusing()) as server:
        arguments = ("--url", server.url, "--json", "--results", str(tmp_path))
        result = command("bench", "prefix", *QUICK, *arguments)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["figures"]["as given"]["cached_tokens"]["warm"]["median"] == 64
    assert len(report["requests"]) == 6
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text()) == report


def test_text_for_people(command: Command) -> None:
    with serving(Reusing()) as server:
        result = command("bench", "prefix", *QUICK, "--url", server.url)
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["pod", "request", "TTFT", "cached", "tokens", "TTFT", "/", "cold"]
    assert [line.split()[2] for line in lines[1:4]] == ["cold", "warm", "again"]


def test_failures_are_the_exit_code(command: Command) -> None:
    def failing(request: Request) -> None:
        if request.number == 18:
            request.refuse(429, "too many")
        else:
            Reusing()(request)

    with serving(failing) as server:
        result = command("bench", "prefix", *QUICK, "--url", server.url)
    assert result.returncode == 4
    assert "as given: 1 requests failed" in result.stdout
    assert result.stderr.endswith("xpod: 1 of 6 requests failed\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--url", "http://h", "--elsewhere"], "--url: a pod that runs already has its routing"),
        (["--prefill", "1", "--elsewhere"], "--elsewhere needs another prefill worker"),
        (["--mempool-disk-bytes", "1X"], "--mempool-disk-bytes: '1X' is not a size"),
    ],
)
def test_what_cannot_be_is_one_line(command: Command, arguments: list[str], reason: str) -> None:
    result = command("bench", "prefix", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
