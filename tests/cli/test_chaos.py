"""Drills without a pod: what is asked, how answers are compared, how trials add up."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from xpod.cli.answer import Answer
from xpod.cli.chaos.drill import WHOLE_POD, _cells, _plan
from xpod.cli.chaos.oracle import Verdict, compare
from xpod.cli.chaos.report import as_table, summary
from xpod.cli.chaos.requests import cold, requests
from xpod.cli.chaos.streams import Stream
from xpod.cli.chaos.target import Life, _seen, most
from xpod.cli.chaos.trial import Again, Cell, Outcome, grown
from xpod.cli.chaos.undisturbed import longest_gap
from xpod.cli.errors import BAD_USAGE, CliError


def answer(tokens: list[int], **more: Any) -> Answer:
    made = Answer(0.0, text="abc", tokens=tokens, logprobs=[-0.1 * token for token in tokens])
    made.finish_reason, made.usage = "length", {"prompt_tokens": 3, "completion_tokens": len(tokens)}
    for name, value in more.items():
        setattr(made, name, value)
    return made


RIGHT = answer([1, 2, 3])
CASES = {
    "equal": (answer([1, 2, 3]), Verdict()),
    "lost": (answer([1, 2], usage=RIGHT.usage), Verdict(lost=1)),
    "doubled": (answer([1, 2, 3, 3], usage=RIGHT.usage), Verdict(doubled=1)),
    "another token": (answer([1, 9, 3]), Verdict(changed=1)),
    "another bit": (
        answer([1, 2, 3], logprobs=[-0.1, math.nextafter(-0.2, 0), -0.1 * 3]),
        Verdict(changed=1),
    ),
    "text": (answer([1, 2, 3], text="abd"), Verdict(other="text")),
    "finish": (answer([1, 2, 3], finish_reason="stop"), Verdict(other="finish reason stop, not length")),
    "usage": (
        answer([1, 2, 3], usage={"prompt_tokens": 3, "completion_tokens": 4}),
        Verdict(other="completion_tokens 4, not 3"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_answer_is_compared_to_the_bit(name: str) -> None:
    got, verdict = CASES[name]
    assert compare(RIGHT, got) == verdict
    assert verdict.right == (name == "equal")


def test_requests_differ_and_come_again_with_their_seed() -> None:
    bodies = requests(16, 3)
    assert bodies == requests(16, 3)
    assert bodies != requests(16, 4)
    assert len({body["prompt"] for body in bodies}) == 16
    assert {"stop", "logit_bias", "min_p", "top_k", "repetition_penalty"} <= {
        key for body in bodies for key in body
    }


def test_half_of_the_prompts_are_known_to_no_cache() -> None:
    """Of the long ones, and of the short ones."""
    bodies = requests(16, 3)
    sent = [[cold(body, salt) for body in bodies] for salt in ("one", "two")]
    salted = ["cache_salt" in body for body in bodies]
    assert sum(salted) == 8
    assert sum(salted[::2]) == sum(salted[1::2]) == 4
    assert [a != b for a, b in zip(*sent, strict=True)] == salted


def test_cells_are_all_combinations() -> None:
    cells = _cells("decode, expert", "KILL,STOP", "idle")
    assert [(cell.kind, cell.signal, cell.phase) for cell in cells] == [
        ("decode", "KILL", "idle"),
        ("decode", "STOP", "idle"),
        ("expert", "KILL", "idle"),
        ("expert", "STOP", "idle"),
    ]


def test_the_whole_pod_is_killed_in_one_phase_and_never_stopped() -> None:
    assert _cells("pod", "KILL,STOP", "idle,stream") == [Cell("pod", "KILL", "decode")]
    assert [cell.kind for cell in _cells("pod,mempool", "STOP", "idle")] == ["mempool"]


def test_nats_nodes_are_hit_by_their_part_in_the_journal() -> None:
    assert [cell.kind for cell in _cells("nats", "STOP", "idle")] == ["nats-leader", "nats-follower"]


def test_a_restart_to_compare_with_comes_first_where_it_is_wanted_and_not_among_the_trials() -> None:
    kill = Cell("decode", "KILL", "decode")
    assert _plan([kill], 2, restart=True) == [(0, WHOLE_POD), (0, kill), (1, kill)]
    assert _plan([kill], 2, restart=False) == [(0, kill), (1, kill)]
    assert _plan([kill, WHOLE_POD], 1, restart=True) == [(0, kill), (0, WHOLE_POD)]


@pytest.mark.parametrize(
    ("kinds", "signals", "phases"),
    [
        ("decoder", "KILL", "idle"),
        ("", "KILL", "idle"),
        ("decode", "HUP", "idle"),
        ("decode", "KILL", "late"),
        ("pod", "STOP", "decode"),
    ],
)
def test_wrong_names_are_refused(kinds: str, signals: str, phases: str) -> None:
    with pytest.raises(CliError) as raised:
        _cells(kinds, signals, phases)
    assert raised.value.exit_code == BAD_USAGE


def test_trials_add_up_by_cell() -> None:
    kill, stop = Cell("decode", "KILL", "decode"), Cell("nats", "STOP", "idle")
    rows = summary(
        [
            Outcome(kill, "decode-0", [Verdict(), Verdict(lost=2)], [], 0.1, 3, 1.0),
            Outcome(stop, "nats-0", [Verdict()], ["gone"], 0.5, 0, 0.1),
            Outcome(kill, "decode-1", [Verdict(), Verdict(changed=1, other="text")], [], 0.3, 1, 3.0),
        ]
    )
    first, second = rows
    assert (first["trials"], first["streams"], first["wrong"]) == (2, 4, 2)
    assert (first["lost"], first["doubled"], first["changed"], first["other"]) == (2, 0, 1, ["text"])
    assert (first["recoveries"], first["gap_p50"], first["whole_p50"]) == (4, pytest.approx(0.2), 2.0)
    assert (second["wrong"], second["errors"]) == (1, ["gone"])
    assert [(row["recomputed"], row["restart_ratio"]) for row in rows] == [(None, None), (None, None)]
    assert as_table(rows).row_count == 2


def test_rows_say_what_was_computed_again_and_how_much_longer_a_restart_takes() -> None:
    kill = Cell("decode", "KILL", "decode")
    rows = summary(
        [
            Outcome(kill, "decode-0", [Verdict()], [], 0.1, 3, 1.0, Again(3, 20, 0)),
            Outcome(WHOLE_POD, "pod", [Verdict()], [], 12.0, 1, 1.0),
            Outcome(kill, "decode-1", [Verdict()], [], 0.3, 3, 1.0, Again(1, 20, 1)),
            Outcome(WHOLE_POD, "pod", [Verdict()], [], 14.0, 1, 1.0),
        ],
        quiet={"decode": [0.05, 0.06, 0.5]},
    )
    assert [(row["reopened"], row["recomputed"], row["recomputed_far"]) for row in rows] == [
        (4, 40, 1),
        (None, None, None),
    ]
    assert [row["restart_ratio"] for row in rows] == [pytest.approx(65), None]
    assert [row["gap_without"] for row in rows] == [0.06, 0.06]
    shown = [list(column.cells) for column in as_table(rows).columns]
    assert shown[12] == ["0.06 s", "0.06 s"]
    assert shown[9:12] == [["40", "all"], ["10.0", ""], ["1", ""]]
    assert shown[15] == ["65 ×", ""]


def test_a_process_that_was_started_anew_counts_from_0() -> None:
    before = {("decode-0", "a"): [5, 50, 1], ("decode-1", "b"): [1, 10, 0]}
    after = {("decode-0", "c"): [1, 7, 0], ("decode-1", "b"): [4, 30, 1]}
    assert grown(before, after, 3) == [4, 27, 1]
    assert grown({}, {}, 3) == [0, 0, 0]


LOCAL = Life("decode-0", "decode", runs=True, name="11 ticks:5", pid=11)
CONTAINER = Life("decode-0", "decode", runs=True, name="2026", started=100.0)
TOLD = {
    "nobody spoke of it": (LOCAL, None, False),
    "the process": (LOCAL, {"state": "up", "pid": 11, "since": 1.0}, True),
    "its predecessor": (LOCAL, {"state": "up", "pid": 10, "since": 1.0}, False),
    "not up": (LOCAL, {"state": "suspect", "pid": 11, "since": 1.0}, False),
    "in a container, since its start": (CONTAINER, {"state": "up", "pid": 1, "since": 102.0}, True),
    "in a container, since before its start": (CONTAINER, {"state": "up", "pid": 1, "since": 90.0}, False),
    "a NATS node": (CONTAINER, {"state": "up", "pid": None, "since": 90.0}, True),
}


@pytest.mark.parametrize("name", TOLD)
def test_routers_must_speak_of_the_process_that_runs(name: str) -> None:
    life, told, seen = TOLD[name]
    assert _seen(life, told) is seen


def test_of_what_routers_tell_of_a_process_the_most_counts() -> None:
    def told(pid: int, **counted: int) -> dict[str, Any]:
        return {"state": "suspect", "pid": pid, "since": 1.0, "detail": counted}

    names = ("reopened", "recomputed")
    assert most(LOCAL, [told(11), told(11, reopened=8, recomputed=90), None], names) == [8, 90]
    assert most(LOCAL, [told(10, reopened=9), told(11, reopened=1)], names) == [1, 0], (
        "its predecessor's do not"
    )
    assert most(LOCAL, [told(10, reopened=9), None], names) is None


def ended(began: float, *arrivals: float) -> Stream:
    stream = Stream(["http://127.0.0.1:9"], {}, threading.Condition())
    stream.began = began
    stream.answer = answer([1] * len(arrivals), arrivals=list(arrivals)) if arrivals else None
    return stream


GAPS = {
    "the longest pause": ([ended(0, 0.1, 0.2, 0.9), ended(0, 0.2, 0.3)], 0.7),
    "the first token is late": ([ended(0, 0.1, 0.2), ended(0, 0.8, 0.9)], 0.6),
    "both first tokens are late": ([ended(0, 0.9), ended(0, 0.8)], 0.7),
    "who is first is chance": ([ended(0, 0.2, 0.25), ended(0, 0.1, 0.15)], 0.05),
    "a stream that failed has no gap": ([ended(0), ended(0, 0.1, 0.4)], 0.3),
    "no stream has an answer": ([ended(0), ended(0)], 0.0),
}


@pytest.mark.parametrize("name", GAPS)
def test_a_gap_is_what_a_client_waits_beyond_what_it_does_without_faults(name: str) -> None:
    streams, gap = GAPS[name]
    assert longest_gap(streams, [0.1, 0.2]) == pytest.approx(gap)


@pytest.mark.parametrize(("since", "gap"), [(0.0, 0.9), (1.5, 0.4), (1.65, 0.3), (2.0, 0.0)])
def test_what_came_before_a_fault_is_not_its_fault(since: float, gap: float) -> None:
    streams = [ended(0.1, 1.1, 1.4, 1.5), ended(0.1, 1.2, 1.6, 1.9)]
    assert longest_gap(streams, [0.1, 0.2], since) == pytest.approx(gap)
