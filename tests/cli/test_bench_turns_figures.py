"""Which combinations there are, what their conversations come to, and the table that shows it."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from xpod.cli.bench.load import Failure
from xpod.cli.bench.trace import Trace
from xpod.cli.bench.turns.combinations import combinations
from xpod.cli.bench.turns.record import run_record
from xpod.cli.bench.turns.summary import summary
from xpod.cli.bench.turns.table import HEADER, as_text, cells
from xpod.cli.bench.turns_load import Turn
from xpod.cli.reuse import Reuse

Json = dict[str, Any]


def pairs(cachings: list[str], routings: list[str], everything: bool = False) -> list[tuple[str, str]]:
    found = combinations(cachings, routings, everything, Reuse(mempool_bytes=5))
    assert {reuse.mempool_bytes for reuse in found} == {5}
    return [(reuse.caching, reuse.routing) for reuse in found]


def test_each_step_of_either_ladder() -> None:
    assert pairs([], []) == [
        ("basic", "prompt-tree"),
        ("prefill", "prompt-tree"),
        ("decode", "prompt-tree"),
        ("full", "prompt-tree"),
        ("full", "round-robin"),
        ("full", "session"),
        ("full", "least-load"),
    ]


def test_those_that_were_chosen() -> None:
    assert pairs(["basic", "basic"], []) == [("basic", "prompt-tree")]
    assert pairs([], ["session"]) == [("full", "session")]
    assert pairs(["basic", "full"], ["session", "least-load"])[-1] == ("full", "least-load")
    assert len(set(pairs([], [], everything=True))) == 16


def turn(first: float, last: float, cached: int, failure: Failure | None = None) -> Turn:
    usage = {"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": cached}}
    trace = Trace(10.0, arrivals=[10.0 + first, 10.0 + last], counts=[1, 1], ended=99.0, usage=usage)
    return Turn(0, 0, 100, trace, failure)


def test_what_conversations_come_to() -> None:
    turns = [turn(1.0, 2.0, 16), turn(3.0, 6.0, 64), turn(0.1, 0.1, 99, Failure("cut off", ""))]
    found = run_record(turns, 4)
    assert [found[name] for name in ("requests", "failed", "unasked")] == [3, 1, 1]
    assert (found["prompt_tokens"], found["computed_tokens"], found["hit_rate"]) == (200, 120, 0.4)
    assert (found["ttft_ms"]["p50"], found["jct_ms"]["mean"]) == (2000.0, 4000.0)
    assert run_record([], 1)["hit_rate"] is None


def run(number: int, caching: str, routing: str, computed: int, p99: float, **others: Any) -> Json:
    figures = {"mean": 2.0, "p50": p99 / 2, "p99": p99}
    counts = {"failed": 0, "unasked": 0, "different": 0, "hit_rate": 0.5, **others}
    return {
        "round": number,
        "caching": caching,
        "routing": routing,
        "computed_tokens": computed,
        "ttft_ms": figures,
        "jct_ms": figures,
        **counts,
    }


RUNS = [
    run(0, "basic", "prompt-tree", 1000, 100.0),
    run(0, "full", "prompt-tree", 250, 40.0),
    run(0, "full", "session", 500, 80.0, different=1),
    run(1, "basic", "prompt-tree", 1000, 200.0),
    run(1, "full", "prompt-tree", 250, 60.0),
    run(1, "full", "session", 400, 90.0, failed=1, unasked=2),
]


def test_ratios_are_of_one_round_and_to_basic() -> None:
    found = summary(RUNS)
    basic, tree, session = found["combinations"]
    assert set(basic["to_basic"].values()) == {None}
    assert tree["to_basic"]["computed_tokens"]["median"] == 0.25
    assert tree["to_basic"]["ttft_p50_ms"] == {"median": 0.35, "min": 0.3, "max": 0.4, "rounds": 2}
    assert session["to_basic"]["computed_tokens"] == {"median": 0.5, "min": 0.5, "max": 0.5, "rounds": 1}
    assert (session["failed"], session["unasked"], session["different"]) == (1, 2, 1)
    assert found["prompt_tree_to_session"]["full"]["median"] == 0.5


def test_basic_of_the_same_routing_comes_first() -> None:
    more = [*RUNS[:3], run(0, "basic", "session", 2000, 10.0)]
    session = next(line for line in summary(more)["combinations"] if line["routing"] == "session")
    assert session["to_basic"]["computed_tokens"]["median"] == 0.25


@pytest.mark.parametrize("runs", [RUNS[1:2], RUNS[:2]])
def test_what_was_not_measured_has_no_ratio(runs: list[Json]) -> None:
    found = summary(runs)
    assert found["prompt_tree_to_session"] == {}
    assert found["combinations"][0]["to_basic"]["computed_tokens"] is None


def test_a_table() -> None:
    report = {**summary(RUNS), "others_cores": None}
    assert [len(line) for line in cells(report)] == [len(HEADER)] * 3
    console = Console(width=250, highlight=False)
    with console.capture() as capture:
        console.print(as_text(report))
    header, basic, tree, _, p99, unasked = capture.get().splitlines()
    assert header.split()[:2] == ["caching", "routing"]
    assert "1000 (1000-1000)" in basic
    assert "0.25 (0.25-0.25)" in tree
    assert p99 == "caching full: p99 TTFT with prompt-tree is 0.50 of that with session"
    assert unasked == "2 turns were never asked: one before them failed"
