"""Placement: complete, even, and with as few moves as can be."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpod_policy.placement import Assignment, place

NAMES = [f"expert-{i}" for i in range(8)]
EXAMPLES = settings(deadline=None, derandomize=True, max_examples=300)
Shards = st.lists(st.sampled_from(NAMES), min_size=1, unique=True)
Copies = st.integers(1, 4)
Layers = st.lists(st.integers(0, 20), min_size=1, max_size=4, unique=True)


def check(placed: Assignment, shards: list[str], layers: list[int], experts: int, copies: int) -> None:
    copies = min(copies, len(shards))
    floor, extra = divmod(experts * copies, len(shards))
    assert set(placed) == set(shards)
    for layer in layers:
        sizes = sorted(len(placed[shard][layer]) for shard in shards)
        assert sizes == [floor] * (len(shards) - extra) + [floor + 1] * extra
        holders = [sum(expert in placed[shard][layer] for shard in shards) for expert in range(experts)]
        assert holders == [copies] * experts
        assert all(0 <= expert < experts for shard in shards for expert in placed[shard][layer])


@EXAMPLES
@given(Shards, Layers, st.integers(0, 20), Copies)
def test_from_nothing(shards: list[str], layers: list[int], experts: int, copies: int) -> None:
    placed = place(shards, layers, experts, copies=copies)
    check(placed, shards, layers, experts, copies)
    assert place(shards[::-1], layers, experts, copies=copies) == placed
    assert place(shards, layers, experts, placed, copies) == placed


@EXAMPLES
@given(st.tuples(Shards, Shards), Layers, st.integers(0, 20), st.tuples(Copies, Copies))
def test_any_change_ends_complete_and_even(
    shards: tuple[list[str], list[str]], layers: list[int], experts: int, copies: tuple[int, int]
) -> None:
    before = place(shards[0], layers, experts, copies=copies[0])
    after = place(shards[1], layers, experts, before, copies[1])
    check(after, shards[1], layers, experts, copies[1])


@EXAMPLES
@given(Shards, st.integers(0, 12), Copies, st.data())
def test_any_previous_placement_will_do(
    shards: list[str], experts: int, copies: int, data: st.DataObject
) -> None:
    some = st.dictionaries(
        st.sampled_from(NAMES), st.dictionaries(st.integers(0, 1), st.frozensets(st.integers(0, 15)))
    )
    check(place(shards, [0, 1], experts, data.draw(some), copies), shards, [0, 1], experts, copies)


@EXAMPLES
@given(st.lists(Shards, min_size=2, max_size=5), st.integers(0, 30))
def test_no_move_that_can_be_avoided(history: list[list[str]], experts: int) -> None:
    """With one copy: a surviving shard keeps all it has, up to its share, and the larger shares go to who has more."""
    layers = [0, 1, 2, 5]
    before = place(history[0], layers, experts)
    for shards in history[1:]:
        after = place(shards, layers, experts, before)
        floor, extra = divmod(experts, len(shards))
        for layer in layers:
            had = {shard: before.get(shard, {}).get(layer, frozenset()) for shard in shards}
            stayed = sum(len(had[shard] & after[shard][layer]) for shard in shards)
            larger = sum(len(experts_) > floor for experts_ in had.values())
            assert stayed == sum(min(len(experts_), floor) for experts_ in had.values()) + min(extra, larger)
            for shard in shards:
                kept = had[shard] & after[shard][layer]
                assert kept == had[shard] or len(kept) == len(after[shard][layer])
        before = after


@EXAMPLES
@given(Shards.filter(lambda shards: len(shards) > 1), st.integers(0, 30))
def test_a_leaving_shard_moves_nothing_but_its_own(shards: list[str], experts: int) -> None:
    before = place(shards, [0, 1], experts)
    for gone in shards:
        after = place([shard for shard in shards if shard != gone], [0, 1], experts, before)
        assert all(before[shard][layer] <= after[shard][layer] for shard in after for layer in (0, 1))


@EXAMPLES
@given(Shards, st.integers(0, 30), Copies)
def test_with_copies_at_most_one_makes_room_for_each_that_was_lost(
    shards: list[str], experts: int, copies: int
) -> None:
    before = place(shards, [0], experts, copies=copies)
    for gone in shards:
        rest = [shard for shard in shards if shard != gone]
        if len(rest) >= copies:
            after = place(rest, [0], experts, before, copies)
            assert sum(len(before[shard][0] - after[shard][0]) for shard in rest) <= len(before[gone][0])


@pytest.mark.parametrize(
    ("shards", "copies", "sizes"),
    [
        (["a"], 1, [8]),
        (["a"], 3, [8]),
        (["a", "b"], 1, [4, 4]),
        (["a", "b"], 2, [8, 8]),
        (["a", "b", "c"], 2, [5, 5, 6]),
    ],
)
def test_shares(shards: list[str], copies: int, sizes: list[int]) -> None:
    placed = place(shards, [0], 8, copies=copies)
    assert sorted(len(layers[0]) for layers in placed.values()) == sizes


def test_no_shards() -> None:
    assert place([], [0], 8) == {}


def test_names_count_once() -> None:
    assert place(["a", "a", "b"], [0], 8) == place(["a", "b"], [0], 8)


def test_the_remainder_goes_round_the_layers() -> None:
    placed = place(["a", "b", "c"], range(6), 4)
    assert {shard: sum(map(len, layers.values())) for shard, layers in placed.items()} == {
        "a": 8,
        "b": 8,
        "c": 8,
    }


def test_the_remainder_stays_where_it_is() -> None:
    """Ten shards hold 16 experts; when one with a single expert leaves, only that expert moves."""
    names = [f"s{i}" for i in range(10)]
    before = place(names, range(6), 16)
    for layer in range(6):
        gone = next(name for name in names if len(before[name][layer]) == 1)
        after = place([name for name in names if name != gone], range(6), 16, before)
        assert all(before[name][layer] <= after[name][layer] for name in after)


def test_whoever_is_full_makes_room() -> None:
    """Only c has room, twice, and may hold expert 2 once: one shard hands an expert over to it."""
    before = {"a": {0: frozenset({0, 1})}, "b": {0: frozenset({0, 1})}}
    after = place(["a", "b", "c"], [0], 3, before, copies=2)
    check(after, ["a", "b", "c"], [0], 3, 2)
    assert sum(len(before[shard][0] & after[shard][0]) for shard in before) == 3
