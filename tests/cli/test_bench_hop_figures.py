"""What exchanges come to: their parts, the order of rounds, medians, and the table that shows them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from xpod.cli.bench.hop.echo import echoing
from xpod.cli.bench.hop.exchange import Exchanged
from xpod.cli.bench.hop.questions import Questions
from xpod.cli.bench.hop.rounds import Found, Plan, measure, schedule, warm_up
from xpod.cli.bench.hop.split import PARTS, Split, Times
from xpod.cli.bench.hop.summary import Json, summary
from xpod.cli.bench.hop.table import as_text
from xpod.cli.bench.recipe import Recipe
from xpod_runtime.broker import Broker
from xpod_runtime.broker_config import BrokerConfig

TIMES = Times(began=1.000, packed=1.002, asked=1.003, came=1.012, ended=1.013)
SPLIT = Split.of(TIMES, queued_us=1000, computed_us=6000)


def test_the_parts_follow_one_another() -> None:
    parts = SPLIT.as_json()
    assert parts == {
        "whole": 13.0,
        "pack": 2.0,
        "bus": 3.0,
        "queue": 1.0,
        "compute": 6.0,
        "unpack": 1.0,
        "begin": 3.0,
        "rest": 7.0,
    }
    assert sum(parts[part] for part in PARTS) == parts["whole"]


def test_another_row_count_begins_each_round_and_large_ones_are_rare() -> None:
    asked = list(schedule(Plan((1, 8, 256), 6, 0)))
    assert asked[:3] == [(0, 1), (0, 8), (0, 256)]
    assert asked[3:5] == [(1, 8), (1, 1)]
    assert [number for number, rows in asked if rows == 256] == [0, 4]
    assert len([number for number, rows in asked if rows == 8]) == 6


def test_what_a_call_had_to_be_repeated_for_is_left_out() -> None:
    answers = iter([None, Exchanged(3, SPLIT, 2, 100, 200), Exchanged(4, SPLIT, 1, 50, 60)])
    echoed: list[tuple[int, int]] = []

    def echo(call_bytes: int, reply_bytes: int) -> float:
        echoed.append((call_bytes, reply_bytes))
        return 0.001

    found = Found()
    measure(lambda rows: next(answers), echo, Plan((8,), 3, 0), found)
    assert found.repeated == 1
    assert echoed == [(100, 200), (50, 60)]
    first, _ = found.exchanges
    assert (first["round"], first["rows"], first["layer"], first["calls"]) == (1, 8, 3, 2)
    assert (first["rest"], first["echo"]) == (7.0, 1.0)


def test_every_layer_and_every_row_count_is_warm() -> None:
    asked: list[int] = []
    warm_up(asked.append, Plan((1, 8), 1, 0), layers=3)
    assert asked == [1, 8] * 3


def test_questions_are_bf16_of_small_numbers_for_distinct_experts() -> None:
    config = Recipe(layers=3, hidden=64, num_experts=8, experts_per_token=3).parsed()
    questions, again = Questions(config, 1), Questions(config, 1)
    asked = [questions.ask(5) for _ in range(4)]
    assert [question.layer for question in asked] == [0, 1, 2, 0]
    for question in asked:
        values = (question.rows.astype("<u4") << 16).view("<f4")
        assert question.rows.dtype == np.dtype("<u2")
        assert values.shape == (5, 64)
        assert 0 < np.abs(values).max() < 1
        assert all(len(set(row)) == 3 and set(row) <= set(range(8)) for row in question.experts.tolist())
        assert all(np.array_equal(ours, its) for ours, its in zip(question, again.ask(5), strict=True))


@pytest.fixture
def nats_url(tmp_path: Path) -> Iterator[str]:
    broker = Broker(BrokerConfig(name="echo", data_dir=tmp_path, jetstream=False))
    broker.start()
    try:
        asyncio.run(broker.wait_ready())
        yield broker.url
    finally:
        broker.kill()


@pytest.mark.parametrize(
    ("call_bytes", "reply_bytes"),
    [(1, 1), (60_000, 250_000), (500_000, (2 << 20) + 1), (3 << 20, 10)],
)
def test_an_echo_has_as_many_bytes(
    nats_url: str, environment: dict[str, str], call_bytes: int, reply_bytes: int
) -> None:
    with echoing(nats_url) as echo:
        assert 0 < echo.ask(call_bytes, reply_bytes) < 60


def hop_report() -> Json:
    record = {"calls": 2, "call_bytes": 100, "reply_bytes": 200, "echo": 0.5}
    exchanges = [
        {"rows": rows, **record, **SPLIT.as_json(), "whole": 13.0 + more}
        for rows in (32, 8)
        for more in (0, 1, 5)
    ]
    return {
        "pod": {"held": {"expert-0": 4, "expert-1": 4}, "frames": True},
        "figures": summary(exchanges),
        "repeated": 2,
        "others_cores": {"median": 0.5, "min": 0.5, "max": 0.5, "rounds": 1},
    }


def test_a_summary() -> None:
    figures = hop_report()["figures"]
    assert list(figures) == ["8", "32"]
    assert figures["8"]["whole"]["p50"] == 14.0
    assert figures["8"]["whole"]["count"] == 3
    assert figures["32"]["reply_bytes"] == 200


def test_a_table() -> None:
    console = Console(width=200, highlight=False)
    with console.capture() as capture:
        console.print(as_text(hop_report()))
    header, eight, _, what, repeated, others = [line.strip() for line in capture.get().splitlines()]
    assert header.split()[:3] == ["rows", "whole", "p95"]
    assert header.endswith("all but compute  raw echo")
    assert eight.split() == ["8", "14.00", "17.60", "2.00", "3.00", "1.00", "6.00", "1.00", "7.00", "0.50"]
    assert what == "2 shards, large messages pass in shared memory; medians in ms, which need not add up"
    assert repeated == "2 exchanges are left out: a call had to be made again"
    assert others == "others kept 0.50 cores busy meanwhile"
