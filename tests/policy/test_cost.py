"""The cost model gives back the numbers that made its samples, and is never negative."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpod_policy.cost import LoadCost, PrefillCost, fitted, fitted_load, pairs_of

SHAPES = [(16, 0), (64, 0), (256, 0), (512, 0), (16, 512), (256, 1024), (512, 1024)]
NUMBERS = st.floats(1e-9, 1e-2)


@given(st.builds(PrefillCost, NUMBERS, NUMBERS, NUMBERS))
def test_the_fit_finds_what_made_the_samples(cost: PrefillCost) -> None:
    found = fitted(
        [(count, pairs_of(count, after), cost.seconds(count, after)) for count, after in SHAPES], 512
    )
    for count, after in SHAPES:
        assert found.seconds(count, after) == pytest.approx(cost.seconds(count, after), rel=1e-4)


@given(st.lists(st.tuples(st.integers(1, 512), st.integers(0, 4096), st.floats(1e-4, 10)), min_size=1))
def test_no_sample_makes_it_negative(samples: list[tuple[int, int, float]]) -> None:
    found = fitted([(count, pairs_of(count, after), seconds) for count, after, seconds in samples], 512)
    assert min(found.step, found.token, found.pair) >= 0
    assert np.isfinite(found.seconds(512, 4096))


def test_nothing_measured_is_said() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        fitted([], 512)


@pytest.mark.parametrize(
    ("count", "after", "seconds"),
    [(0, 100, 0.0), (1, 0, 1.101), (2, 10, 1.223), (513, 0, 2 + 51.3 + 131.841)],
)
def test_what_a_prompt_costs(count: int, after: int, seconds: float) -> None:
    assert PrefillCost(1.0, 0.1, 0.001).seconds(count, after) == pytest.approx(seconds)


def test_a_load_is_a_call_and_its_blocks() -> None:
    assert LoadCost(0.01, 0.001).seconds(0) == 0
    assert LoadCost(0.01, 0.001).seconds(10) == pytest.approx(0.02)


@given(NUMBERS, NUMBERS)
def test_the_fit_of_loads_finds_what_made_the_samples(call: float, block: float) -> None:
    cost = LoadCost(call, block)
    found = fitted_load([(blocks, cost.seconds(blocks)) for blocks in (1, 2, 8, 64)])
    assert found.seconds(32) == pytest.approx(cost.seconds(32), rel=1e-4)
