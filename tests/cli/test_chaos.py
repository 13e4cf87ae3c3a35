"""Drills without a pod: what is asked, how answers are compared, how trials add up."""

from __future__ import annotations

import math
from typing import Any

import pytest

from xpod.cli.answer import Answer
from xpod.cli.chaos.drill import KINDS, _cells
from xpod.cli.chaos.oracle import Verdict, compare
from xpod.cli.chaos.report import as_table, summary
from xpod.cli.chaos.requests import requests
from xpod.cli.chaos.trial import Cell, Outcome
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


def test_cells_are_all_combinations() -> None:
    cells = _cells("decode, expert", "KILL,STOP", "idle")
    assert [(cell.kind, cell.signal, cell.phase) for cell in cells] == [
        ("decode", "KILL", "idle"),
        ("decode", "STOP", "idle"),
        ("expert", "KILL", "idle"),
        ("expert", "STOP", "idle"),
    ]


@pytest.mark.parametrize(
    ("kinds", "signals", "phases"),
    [
        ("decoder", "KILL", "idle"),
        ("", "KILL", "idle"),
        ("decode", "HUP", "idle"),
        ("decode", "KILL", "late"),
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
    assert as_table(rows).row_count == 2
    assert len(KINDS) == 7
