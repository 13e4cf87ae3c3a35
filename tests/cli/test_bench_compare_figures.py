"""What runs and rounds come to: windows, rates, ratios, medians, and the tables that show them."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from xpod.cli.bench.compare.cases import CASES, TAX_CASE, Case, chosen
from xpod.cli.bench.compare.memory import budget, checkpoint_bytes, pss_by_kind
from xpod.cli.bench.compare.summary import Json, ratios, spread, summary
from xpod.cli.bench.compare.table import as_text
from xpod.cli.bench.compare.taken import Stream, Taken, Window, steady_rate, steady_window
from xpod.cli.errors import CliError

PREFILL, DECODE = Case("prefill", 2, 30, 1), Case("decode-2", 2, 8, 20)


def stream(first: float, last: float, tokens: int = 20, *, seen: int | None = None) -> Stream:
    """Tokens at even distances, the first `seen` of them one by one."""
    step = (last - first) / (tokens - 1)
    return Stream(tuple(first + index * step for index in range(tokens)), (1,) * (seen or tokens), tokens)


def test_a_steady_window_is_while_all_streams_decode() -> None:
    streams = [stream(1.0, 20.0), stream(5.0, 24.0)]
    assert steady_window(streams) == Window(5.0, 20.0, 15 + 15)
    assert steady_rate(streams) == pytest.approx(2.0)


def test_tokens_that_open_the_window_are_not_of_it() -> None:
    """A batch in one process: its first tokens come together, then a step for all."""
    streams = [Stream((1.0, 2.0, 3.0), (1, 4, 5), 10)] * 3
    assert steady_window(streams) == Window(1.0, 3.0, 27)
    assert steady_rate(streams) == pytest.approx(13.5)


@pytest.mark.parametrize(
    "streams",
    [
        [],
        [stream(0.0, 1.0), stream(2.0, 3.0)],
        [stream(0.0, 9.0), stream(8.0, 17.0)],
        [Stream((1.0,), (1,), 1)],
        [Stream((1.0, 2.0), (1, 18), 20)] * 2 + [Stream((1.0, 2.0), (1, 17), 20)],
    ],
    ids=["nobody", "one after another", "hardly together", "one token", "tokens unseen"],
)
def test_no_figure_where_the_window_has_none(streams: list[Stream]) -> None:
    assert steady_rate(streams) is None


def test_a_run_has_figures() -> None:
    run = Taken(DECODE, 20.0, (stream(1.0, 20.0), stream(1.0, 20.0)))
    assert run.figures() == {"decode-2 steady": pytest.approx(2.0), "decode-2 whole": 2.0}
    assert Taken(PREFILL, 6.0, (Stream((6.0,), (1,), 1),) * 2).figures() == {"prefill": 10.0}
    assert run.as_json()["window"] == [1.0, 20.0, 38]


def test_an_error_leaves_no_figure() -> None:
    run = Taken(DECODE, 20.0, (stream(1.0, 20.0), stream(1.0, 20.0)), errors=("lost",))
    assert run.figures() == {"decode-2 steady": None, "decode-2 whole": None}


def test_ratios_are_of_one_round() -> None:
    assert ratios([3.0, None, 8.0, 1.0], [2.0, 1.0, 4.0]) == [1.5, None, 2.0]
    assert ratios([1.0], [None]) == [None]
    assert spread([3.0, None, 1.0, 9.0]) == {"median": 3.0, "min": 1.0, "max": 9.0, "rounds": 3}
    assert spread([None]) is None


def record(number: int, contender: str, rate: float | None) -> Json:
    figures = {f"{TAX_CASE} steady": rate, f"{TAX_CASE} whole": 1.0}
    return {"round": number, "contender": contender, "figures": figures, "others_cores": 0.5}


def compared() -> Json:
    rates = {"pod": (30.0, 10.0, 50.0), "reference": (10.0, 20.0, 40.0), "other": (10.0, None, None)}
    runs = [record(number, name, rate) for name, each in rates.items() for number, rate in enumerate(each)]
    memory = [
        {"round": number, "contender": "pod", "pss_bytes": {"expert": size, "nats": 1_000_000_000}}
        for number, size in enumerate((2_000_000_000, 5_000_000_000))
    ]
    contenders = {"pod": {"budget_bytes": 7_000_000_000}, "reference": {}, "other": {}}
    return {"contenders": contenders, **summary(runs, memory, chosen([TAX_CASE]))}


def test_a_summary() -> None:
    found = compared()
    steady = found["figures"]["decode-32 steady"]
    assert steady["contenders"]["pod"]["median"] == 30.0
    assert steady["contenders"]["other"]["rounds"] == 1
    assert (
        found["tax"] == steady["ratios"]["reference"] == {"median": 1.25, "min": 0.5, "max": 3.0, "rounds": 3}
    )
    assert steady["ratios"]["other"] == {"median": 3.0, "min": 3.0, "max": 3.0, "rounds": 1}
    assert found["memory"]["pod"]["pss_bytes"]["median"] == 4_500_000_000
    assert found["memory"]["pod"]["kinds"] == {"expert": 3_500_000_000, "nats": 1_000_000_000}


def test_a_table() -> None:
    console = Console(width=200, highlight=False)
    with console.capture() as capture:
        console.print(as_text(compared()))
    header, steady, _, tax, memory, others = capture.get().splitlines()
    assert header.split() == [
        "tokens",
        "per",
        "second",
        "pod",
        "reference",
        "other",
        "pod/reference",
        "pod/other",
    ]
    assert "30.0 (10.0-50.0)" in steady
    assert "1.25 (0.50-3.00)" in steady
    assert tax == "disaggregation: at decode-32 the pod does 1.25 (0.50-3.00) of what one process does"
    assert memory == "memory: pod 4.50 GB of 7.00 GB (expert 3.50 GB, nats 1.00 GB)"
    assert others == "others kept 0.50 (0.50-0.50) cores busy meanwhile"


def test_prompts_are_never_the_same_twice() -> None:
    drawn = [case.prompts(1, number, 32_000) for case in CASES for number in range(2)]
    prompts = [tuple(prompt) for each in drawn for prompt in each]
    assert len(set(prompts)) == len(prompts) == 2 * (8 + 1 + 8 + 32)
    assert drawn[0] == CASES[0].prompts(1, 0, 32_000) != CASES[0].prompts(2, 0, 32_000)
    assert {token for prompt in CASES[0].prompts(1, 0, 18) for token in prompt} == {16, 17}


def test_cases_by_name() -> None:
    assert chosen([]) == CASES
    assert [case.name for case in chosen(["decode-8", "prefill"])] == ["prefill", "decode-8"]
    with pytest.raises(CliError, match="--case: 'x' is not one of prefill, decode-1"):
        chosen(["x"])


def test_a_budget(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"x" * 1000)
    assert checkpoint_bytes(tmp_path) == 1000
    processes = {"expert": 2, "decode": 1, "nats": 1, "launcher": 1}
    assert budget(1000, processes) == 1350 + 3 * 250_000_000 + 2 * 80_000_000


def test_part_of_a_sum_is_no_figure() -> None:
    assert pss_by_kind([("pod", 0)]) == {}
