"""What members say of themselves: taken where it makes sense."""

from __future__ import annotations

import pytest

from xpod_policy import told
from xpod_policy.cost import LoadCost, PrefillCost
from xpod_policy.membership import Member, Value

COSTS: dict[str, Value] = {"cost_step": 0.01, "cost_token": 0.001, "cost_pair": 0}


def member(load: dict[str, Value] | None = None, **detail: Value) -> Member:
    return Member("a", "prefill", "i", 1, "host", "print", "up", 0.0, 0.0, detail, load or {})


@pytest.mark.parametrize(
    ("value", "found"),
    [(3, 3.0), (0.5, 0.5), (0, 0.0), (-1, None), ("3", None), (float("nan"), None), (float("inf"), None)],
)
def test_a_number(value: Value, found: float | None) -> None:
    assert told.number(member({"x": value}), "x") == found
    assert told.number(member(), "x") is None


@pytest.mark.parametrize(
    ("namespace", "found"),
    [("ab" * 16, b"\xab" * 16), ("ab", None), ("zz" * 16, None), (7, None), ("", None)],
)
def test_a_root(namespace: Value, found: bytes | None) -> None:
    assert told.root(member(namespace=namespace)) == found
    assert told.root(member()) is None


@pytest.mark.parametrize(
    ("load", "detail", "found"),
    [
        (COSTS, {"step_tokens": 256}, PrefillCost(0.01, 0.001, 0.0, 256)),
        (COSTS, {}, PrefillCost(0.01, 0.001, 0.0, 512)),
        (COSTS, {"step_tokens": 0}, PrefillCost(0.01, 0.001, 0.0, 512)),
        (COSTS, {"step_tokens": "many"}, PrefillCost(0.01, 0.001, 0.0, 512)),
        (COSTS | {"cost_pair": -1}, {}, None),
        ({"cost_step": 0.01}, {}, None),
    ],
)
def test_what_a_prompt_costs(
    load: dict[str, Value], detail: dict[str, Value], found: PrefillCost | None
) -> None:
    assert told.prefill_cost(member(load, **detail)) == found


def test_what_blocks_cost() -> None:
    assert told.load_cost(member()) == LoadCost(0.005, 0.001)
    assert told.load_cost(member({"cost_load_call": 0.0, "cost_load_block": 0.25})) == LoadCost(0.0, 0.25)
