"""When a placement is due."""

from __future__ import annotations

from xpod_policy.planner import Planner

TWO, THREE = frozenset({"a", "b"}), frozenset({"a", "b", "c"})


def test_a_shard_that_joined_is_waited_behind_and_one_that_left_is_not() -> None:
    planner = Planner(settle=0.75)
    planner.observe(TWO, 0.0)
    assert planner.take(0.7) is None
    planner.observe(THREE, 0.7)
    assert planner.take(1.4) is None
    assert planner.take(1.5) == THREE
    planner.observe(TWO, 2.0)
    assert planner.take(2.0) == TWO
    assert planner.take(9.0) is None, "once"


def test_the_same_shards_are_placed_again_when_it_is_asked_for() -> None:
    planner = Planner(settle=0.75)
    planner.observe(TWO, 0.0)
    assert planner.take(1.0) == TWO
    planner.again(2.0)
    assert planner.take(2.0) == TWO
    assert planner.take(3.0) is None
