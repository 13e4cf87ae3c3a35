"""What a worker measures, and when it asks MemPool."""

from __future__ import annotations

import pytest

from xpod.attention.costs import Costs
from xpod_policy.cost import pairs_of


def test_before_anything_is_measured_mempool_is_asked() -> None:
    costs = Costs(512)
    assert costs.worth_loading(1, 16, 0)
    assert costs.told() == {"cost_load_call": 0.005, "cost_load_block": 0.001}


@pytest.mark.parametrize(("token_seconds", "worth"), [(1e-6, False), (1e-2, True)])
def test_what_is_quicker_to_compute_is_not_asked_for(token_seconds: float, worth: bool) -> None:
    costs = Costs(512)
    for count in (16, 64, 256, 512):
        costs.took(count, pairs_of(count, 0), token_seconds * count)
        costs.loaded(count // 16, 0.002 + 0.0005 * count / 16)
    assert costs.worth_loading(64, 1024, 0) == worth


def test_what_was_measured_lately_counts() -> None:
    costs = Costs(512)
    for seconds in (0.001, 0.01):
        for _ in range(200):
            costs.took(16, pairs_of(16, 0), seconds)
    assert costs.prefill is not None
    assert costs.prefill.seconds(16) == pytest.approx(0.01, rel=0.01)
    told = costs.told()
    assert set(told) == {"cost_load_call", "cost_load_block", "cost_step", "cost_token", "cost_pair"}


def test_a_load_that_found_nothing_says_nothing_of_blocks() -> None:
    costs = Costs(512)
    before = costs.load
    costs.loaded(0, 3.0)
    assert costs.load == before
