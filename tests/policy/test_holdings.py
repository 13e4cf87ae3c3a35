"""Bitmaps, and routing by what shards hold, against a routing that goes pair by pair."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpod_policy.holdings import RoutingTable, from_bitmap, to_bitmap

EXPERTS = 12
LAYERS = (1, 3)
SHARDS = ["a", "b", "c", "d"]
Held = dict[str, dict[int, set[int]]]
ANY_HELD = st.dictionaries(
    st.sampled_from(SHARDS),
    st.dictionaries(st.sampled_from([*LAYERS, 9]), st.sets(st.integers(0, EXPERTS - 1)), max_size=3),
)


def table(held: Held) -> RoutingTable:
    built = RoutingTable(EXPERTS, LAYERS)
    for shard, layers in held.items():
        built.update(shard, {layer: to_bitmap(experts, EXPERTS) for layer, experts in layers.items()})
    return built


def served(built: RoutingTable, layer: int, avoid: frozenset[str] = frozenset()) -> dict[str, list[int]]:
    parts, _ = built.split(layer, np.arange(EXPERTS)[:, None], avoid)
    return {part.shard: part.expert_of.tolist() for part in parts}


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 200).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, max(n - 1, 0))))))
def test_bitmap_round_trip(case: tuple[int, set[int]]) -> None:
    total, experts = case
    experts = experts if total else set()
    bitmap = to_bitmap(experts, total)
    assert len(bitmap) == -(-total // 8)
    assert from_bitmap(bitmap) == tuple(sorted(experts))
    for expert in range(total):
        assert bool(bitmap[expert // 8] >> (expert % 8) & 1) == (expert in experts)


@pytest.mark.parametrize("expert", [-1, 8, 9])
def test_an_expert_outside_is_refused(expert: int) -> None:
    with pytest.raises(ValueError, match="is not below 8"):
        to_bitmap([expert], 8)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(ANY_HELD, st.sampled_from(LAYERS), st.frozensets(st.sampled_from(SHARDS)), st.data())
def test_split_against_pair_by_pair(
    held: Held, layer: int, avoid: frozenset[str], data: st.DataObject
) -> None:
    rows, width = data.draw(st.integers(0, 6)), data.draw(st.integers(1, 4))
    flat = data.draw(st.lists(st.integers(-1, EXPERTS - 1), min_size=rows * width, max_size=rows * width))
    experts: npt.NDArray[np.int64] = np.array(flat, np.int64).reshape(rows, width)
    most = data.draw(st.sampled_from([1, 3, 1000]))
    parts, nobody = table(held).split(layer, experts, avoid)
    orphans = np.zeros(experts.shape, bool) if nobody is None else nobody
    assert nobody is None or nobody.any()
    parts = [piece for part in parts for piece in part.cut(most, experts)]

    answered: dict[tuple[int, int], str] = {}
    for part in parts:
        token, slot = np.divmod(part.place, width)
        pairs = list(zip(token.tolist(), slot.tolist(), strict=True))
        asked = list(zip(part.expert_of.tolist(), part.place.tolist(), strict=True))
        assert asked == sorted(asked)
        in_call = np.arange(rows) if part.rows is None else part.rows
        assert in_call[part.row_of].tolist() == token.tolist()
        assert part.rows is None or part.rows.tolist() == sorted(set(token.tolist()))
        assert part.expert_of.tolist() == experts[token, slot].tolist()
        assert (part.row_of.dtype, part.expert_of.dtype) == (np.int32, np.int32)
        for pair in pairs:
            assert pair not in answered
            answered[pair] = part.shard
        assert len(pairs) <= most
    shards = [part.shard for part in parts]
    assert shards == sorted(shards)
    assert most < 1000 or len(shards) == len(set(shards))

    owner: dict[int, str] = {}
    for token in range(rows):
        for slot in range(width):
            expert = int(experts[token, slot])
            holders = {s for s in held if expert in held[s].get(layer, ()) and s not in avoid}
            assert bool(orphans[token, slot]) == (expert >= 0 and not holders)
            if expert >= 0 and holders:
                assert answered[token, slot] in holders
                assert owner.setdefault(expert, answered[token, slot]) == answered[token, slot]
            else:
                assert (token, slot) not in answered


@settings(deadline=None, derandomize=True)
@given(ANY_HELD)
def test_missing_and_holders(held: Held) -> None:
    built = table(held)
    assert built.shards == tuple(sorted(held))
    nobody = []
    for layer in LAYERS:
        for expert in range(EXPERTS):
            holders = tuple(s for s in sorted(held) if expert in held[s].get(layer, ()))
            assert built.holders(layer, expert) == holders
            if not holders:
                nobody.append((layer, expert))
    assert built.missing() == nobody


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_balance_where_everybody_holds_everything(count: int) -> None:
    everything = {layer: set(range(EXPERTS)) for layer in LAYERS}
    shares = served(table(dict.fromkeys(SHARDS[:count], everything)), 1)
    assert sorted(map(len, shares.values())) == [EXPERTS // count] * count


def test_rare_experts_are_given_away_first() -> None:
    built = table({"a": {1: set(range(12))}, "b": {1: set(range(6))}})
    assert served(built, 1) == {"a": [6, 7, 8, 9, 10, 11], "b": [0, 1, 2, 3, 4, 5]}


def test_avoid_leaves_the_others_their_work() -> None:
    built = table({"a": {1: {0, 1}}, "b": {1: {1, 2}}, "c": {1: {0}}})
    assert built.split(1, np.array([[0, 1, 2]]), frozenset("b"))[1].tolist() == [[False, False, True]]
    assert served(built, 1, frozenset("b")) == {"a": [1], "c": [0]}
    assert set(served(built, 1, frozenset("ab"))) == {"c"}
    assert served(built, 1, frozenset("abc")) == {}


def test_holdings_replace_what_was_said_before() -> None:
    built = table({"a": {1: {0, 1}}, "b": {1: {1}}})
    built.update("a", {1: to_bitmap({2}, EXPERTS)})
    assert [built.holders(1, expert) for expert in (0, 1, 2)] == [(), ("b",), ("a",)]
    built.remove("b")
    built.remove("stranger")
    assert built.shards == ("a",)
    assert built.holders(1, 1) == ()


TWICE = {"a": {0, 1, 2, 3}, "b": {2, 3, 4, 5}, "c": {4, 5, 0, 1}}


def few(turn: int, held: dict[str, set[int]] = TWICE) -> RoutingTable:
    built = RoutingTable(6, (0, 1, 2), few=8, turn=turn)
    for shard, experts in held.items():
        built.update(shard, dict.fromkeys((0, 1, 2), to_bitmap(experts, 6)))
    return built


def asked(built: RoutingTable, layer: int, tokens: int) -> dict[str, list[int]]:
    experts = np.resize(np.arange(6), (tokens, 6))
    parts, nobody = built.split(layer, experts)
    assert nobody is None
    return {part.shard: sorted(set(part.expert_of.tolist())) for part in parts}


def test_a_small_batch_asks_as_few_shards_as_have_all_experts_and_a_large_one_all() -> None:
    for turn in range(3):
        shards = asked(few(turn), 0, 8)
        assert len(shards) == 2
        assert sorted(expert for experts in shards.values() for expert in experts) == [0, 1, 2, 3, 4, 5]
        assert sorted(len(experts) for experts in shards.values()) in ([2, 4], [3, 3])
    assert len(asked(few(0), 0, 9)) == 3


def test_which_shards_are_few_differs_by_layer_and_by_turn() -> None:
    by_layer = [frozenset(asked(few(0), layer, 1)) for layer in (0, 1, 2)]
    assert len(set(by_layer)) == 3
    assert [frozenset(asked(few(1), layer, 1)) for layer in (0, 1)] == by_layer[1:]


def test_a_shard_that_has_all_experts_is_asked_alone() -> None:
    assert asked(few(0, {"a": {0, 1}, "b": {0, 1, 2, 3, 4, 5}, "c": {4, 5}}), 1, 4) == {
        "b": [0, 1, 2, 3, 4, 5]
    }


def test_a_shard_that_is_avoided_or_gone_is_not_among_the_few() -> None:
    built = few(0)
    parts, _ = built.split(0, np.arange(6)[None], frozenset({"a"}))
    assert {part.shard for part in parts} == {"b", "c"}
    built.remove("a")
    assert set(asked(built, 0, 1)) == {"b", "c"}


def test_bits_beyond_the_last_expert_are_ignored() -> None:
    built = RoutingTable(4, LAYERS)
    built.update("a", {1: b"\xff\xff", 3: b""})
    assert built.missing() == [(3, 0), (3, 1), (3, 2), (3, 3)]
