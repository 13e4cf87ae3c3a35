"""What workers and shards measure on the path of every token."""

from __future__ import annotations

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from xpod.attention.measured import Measured
from xpod.expert.heat import Heat


@pytest.mark.parametrize(
    ("pairs", "size"), [(1, "1-8"), (8, "1-8"), (9, "9-64"), (64, "9-64"), (512, "65-512"), (513, "513-")]
)
def test_a_call_is_told_in_three_parts_by_its_size(pairs: int, size: str) -> None:
    registry = CollectorRegistry()
    Measured(registry).call(pairs, 0.010, 2000, 5000)
    parts = {
        part: registry.get_sample_value("xpod_expert_call_seconds_sum", {"pairs": size, "part": part})
        for part in ("queue", "compute", "way")
    }
    assert parts == pytest.approx({"queue": 0.002, "compute": 0.005, "way": 0.003})


def test_clocks_that_disagree_give_no_negative_way() -> None:
    registry = CollectorRegistry()
    Measured(registry).call(1, 0.001, 2000, 5000)
    labels = {"pairs": "1-8", "part": "way"}
    assert registry.get_sample_value("xpod_expert_call_seconds_sum", labels) == 0
    assert registry.get_sample_value("xpod_expert_call_seconds_count", labels) == 1


def test_steps_are_told_by_seconds_and_tokens() -> None:
    registry = CollectorRegistry()
    measured = Measured(registry)
    measured.step(0.02, 32)
    measured.step(0.04, 1)
    assert registry.get_sample_value("xpod_step_seconds_sum") == pytest.approx(0.06)
    assert registry.get_sample_value("xpod_step_tokens_bucket", {"le": "16.0"}) == 1


def test_a_heat_map_has_the_experts_that_were_asked() -> None:
    registry, heat = CollectorRegistry(), Heat(2, 4)
    registry.register(heat)
    heat.count(1, np.array([0, 3, 3], np.int32))
    heat.count(1, np.array([3], np.int32))
    [family] = registry.collect()
    found = {
        (s.labels["layer"], s.labels["expert"]): s.value for s in family.samples if s.name.endswith("_total")
    }
    assert found == {("1", "0"): 1, ("1", "3"): 3}
