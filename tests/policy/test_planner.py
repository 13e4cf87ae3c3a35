"""When a placement is due."""

from __future__ import annotations

from xpod_policy.planner import Planner

TWO, THREE = frozenset({"a", "b"}), frozenset({"a", "b", "c"})


def test_a_placement_is_due_a_moment_after_the_last_shard_joined() -> None:
    planner = Planner(settle=0.75)
    planner.observe(TWO, 0.0)
    assert planner.take(0.7) is None
    planner.observe(THREE, 0.7)
    assert planner.take(1.4) is None
    assert planner.take(1.5) == THREE
    assert planner.take(9.0) is None, "once"


def test_the_same_shards_are_placed_again_when_it_is_asked_for() -> None:
    planner = Planner(settle=0.75)
    planner.observe(TWO, 0.0)
    assert planner.take(1.0) == TWO
    planner.again(2.0)
    assert planner.take(2.0) == TWO
    assert planner.take(3.0) is None


def placed() -> Planner:
    """Three shards that were placed on at 1.0."""
    planner = Planner(settle=0.75, patience=5.0)
    planner.observe(THREE, 0.0)
    assert planner.take(1.0) == THREE
    return planner


def test_a_shard_that_was_lost_is_given_time_to_come_back() -> None:
    planner = placed()
    assert not planner.waits
    planner.observe(TWO, 2.0)
    assert planner.waits
    assert planner.take(6.9) is None
    assert planner.take(7.0) == TWO
    assert not planner.waits
    planner.observe(THREE, 9.0)
    assert planner.take(9.7) is None
    assert planner.take(9.8) == THREE


def test_a_shard_that_comes_back_in_time_is_one_that_joined() -> None:
    planner = placed()
    planner.observe(TWO, 2.0)
    planner.observe(THREE, 4.0)
    assert not planner.waits
    assert planner.take(4.7) is None
    assert planner.take(4.8) == THREE
    assert planner.take(9.0) is None


def test_one_of_two_lost_shards_comes_back_and_the_other_is_waited_for() -> None:
    planner = placed()
    planner.observe(frozenset({"a", "b"}), 2.0)
    planner.observe(frozenset({"a"}), 3.0)
    planner.observe(frozenset({"a", "c"}), 4.0)
    assert planner.take(6.9) is None
    assert planner.take(7.0) == frozenset({"a", "c"}), "as long as the first is missed"


def test_where_an_expert_has_no_holder_left_nobody_is_waited_for() -> None:
    planner = placed()
    planner.observe(TWO, 2.0)
    planner.again(2.1)
    assert planner.take(2.1) == TWO
    assert not planner.waits
