"""Whose turn it is at an expert shard, and large calls in pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xpod.expert.calls import Call
from xpod.expert.pieces import LEAST_PAIRS, PIECE_SECONDS, Large, Pace, cut
from xpod.expert.turns import Turns
from xpod_model.checkpoint import Checkpoint
from xpod_model.errors import MissingExpert
from xpod_model.experts import ExpertSet
from xpod_proto import ExpertCall, Tensor
from xpod_runtime.line import Incoming


def call(layer: int, pairs: int) -> Call:
    numbers = Tensor.of(np.zeros(pairs, np.int32), "i32")
    rows = Tensor.of(np.zeros((1, 4), np.float32), "fp32")
    message = ExpertCall(layer, rows, numbers, numbers)
    return Call(message, Incoming(message, None), 0.0)


def test_small_calls_of_a_layer_go_together_the_oldest_first() -> None:
    turns = Turns()
    turns.small.extend([call(2, 8), call(1, 9), call(2, 10)])
    assert [each.pairs for each in turns.take_small()] == [8, 10]
    assert [each.pairs for each in turns.take_small()] == [9]
    assert turns.take_small() == []
    assert len(turns) == 0


def test_small_calls_and_pieces_of_large_ones_take_turns() -> None:
    turns = Turns()
    turns.large.append(Large(call(1, 500), 16))
    for _ in range(3):
        turns.small.extend([call(2, 1), call(3, 1)])
        assert len(turns.take_small()) == 1
        assert turns.take_small() == []
        assert len(turns.take_small()) == 1
        assert turns.take_small() == []
    assert len(turns) == 1
    turns.end_large()
    assert len(turns) == 0


def test_where_no_large_call_waits_small_ones_do_not() -> None:
    turns = Turns()
    turns.small.extend(call(layer, 1) for layer in range(5))
    for _ in range(5):
        assert len(turns.take_small()) == 1
    turns.large.append(Large(call(1, 500), 16))
    assert turns.take_small() == []


CUTS = {
    "all of it": ([0, 0, 1], 3, 3),
    "between experts": ([0, 0, 1, 1, 2], 4, 4),
    "an expert more would be too many": ([0, 0, 0, 1, 1, 1], 4, 3),
    "one expert alone is too much": ([0, 0, 0, 0, 0, 1], 4, 4),
    "too little before the next expert": ([0, 1, 1, 1, 1, 1], 4, 4),
    "in any order": ([3, 1, 2, 0], 2, 2),
}


@pytest.mark.parametrize("name", CUTS)
def test_calls_are_cut_between_experts_where_that_is_not_far(name: str) -> None:
    experts, most, pairs = CUTS[name]
    assert cut(np.array(experts, np.int32), most) == pairs


def test_the_pace_is_measured_and_bounded() -> None:
    pace = Pace()
    for _ in range(50):
        pace.took(1000, PIECE_SECONDS)
    assert pace.pairs == pytest.approx(1000, rel=0.01)
    pace.took(LEAST_PAIRS - 1, 1e-9)
    assert pace.pairs == pytest.approx(1000, rel=0.01)
    for _ in range(50):
        pace.took(100, 1.0)
    assert pace.pairs == LEAST_PAIRS


LAYER = 1


@pytest.fixture(params=[("plain", "fp32"), ("plain", "bf16"), ("wide-heads", "bf16")], ids=str)
def experts(request: pytest.FixtureRequest, oracle_dirs: dict[str, Path]) -> ExpertSet:
    """Of layer 1, all; the last is of shapes that our own kernel takes."""
    name, dtype = request.param
    found = ExpertSet(Checkpoint.open(oracle_dirs[name]), dtype)
    found.load_all()
    return found


def asked(experts: ExpertSet) -> Large:
    """A call for many pairs, whose experts come in order."""
    rng, config = np.random.default_rng(5), experts._checkpoint.config
    pairs, rows = 150, 40
    values = rng.standard_normal((rows, config.hidden)).astype(np.float32)
    if experts.dtype.itemsize == 4:
        sent = Tensor.of(values, "fp32")
    else:
        sent = Tensor.of((values.view(np.uint32) >> 16).astype(np.uint16), "bf16")
    row_of = Tensor.of(rng.integers(0, rows, pairs).astype(np.int32), "i32")
    expert_of = Tensor.of(np.sort(rng.integers(0, config.experts, pairs)).astype(np.int32), "i32")
    message = ExpertCall(LAYER, sent, row_of, expert_of)
    return Large(Call(message, Incoming(message, None), 0.0), experts.row_bytes)


@pytest.mark.parametrize("most", [1, 7, 33, 64])
def test_pieces_have_the_bits_of_the_whole(experts: ExpertSet, most: int) -> None:
    whole, pieces = asked(experts), asked(experts)
    assert whole.run(experts, whole.left) == 150
    while pieces.left:
        assert 0 < pieces.run(experts, most) <= most
    assert bytes(pieces.result().data) == bytes(whole.result().data)
    assert any(whole.result().data)


def test_an_expert_that_is_not_held_is_missed_in_its_piece(experts: ExpertSet) -> None:
    large = asked(experts)
    large.run(experts, 40)
    experts.drop(LAYER, experts._checkpoint.config.experts - 1)
    with pytest.raises(MissingExpert):
        large.run(experts, large.left)
