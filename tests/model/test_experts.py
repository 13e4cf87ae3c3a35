"""An expert call is a pure function of its rows."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from xpod_model.bits import to_bits
from xpod_model.checkpoint import Checkpoint
from xpod_model.errors import MissingExpert, ModelError, TensorShape
from xpod_model.experts import ExpertSet
from xpod_model.kernels import FEW_ROWS
from xpod_model.tensors import DTYPES, read


# the last is of shapes that our own kernel takes
@pytest.fixture(
    scope="module", params=[("plain", "fp32"), ("plain", "bf16"), ("wide-heads", "bf16")], ids=str
)
def experts(request: pytest.FixtureRequest, oracle_dirs: dict[str, Path]) -> ExpertSet:
    name, dtype = request.param
    found = ExpertSet(Checkpoint.open(oracle_dirs[name]), dtype)
    found.load_all()
    return found


def call(
    experts: ExpertSet, rows: int, pairs: int, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw, config = torch.Generator().manual_seed(seed), experts._checkpoint.config
    x = torch.randn(rows, config.hidden, generator=draw).to(experts.dtype)
    row_of, expert_of = (torch.randint(end, (pairs,), generator=draw) for end in (rows, config.experts))
    return x, row_of, expert_of


def test_each_pair_is_its_expert_on_its_row(experts: ExpertSet) -> None:
    x, row_of, expert_of = call(experts, 9, 40)
    out = experts.run(1, x, row_of, expert_of)
    checkpoint = experts._checkpoint
    for row, expert, found in zip(row_of.tolist(), expert_of.tolist(), out, strict=True):
        names = checkpoint.family.expert(1, expert)
        gate, up, down = (
            read(checkpoint, n, experts.dtype).float() for n in (names.gate, names.up, names.down)
        )
        exact = down @ (F.silu(gate @ x[row].float()) * (up @ x[row].float()))
        error = (found.float() - exact).abs().max() / exact.abs().max()
        assert float(error) < (1e-5 if experts.dtype == torch.float32 else 0.02)


def test_a_pair_does_not_know_its_company(experts: ExpertSet) -> None:
    x, row_of, expert_of = call(experts, 60, 300)
    whole = experts.run(0, x, row_of, expert_of)
    for size in (1, 2, 3, 7, 64, 299):
        for begin in (0, 1, 300 - size):
            part = slice(begin, begin + size)
            assert torch.equal(experts.run(0, x, row_of[part], expert_of[part]), whole[part])
    order = torch.randperm(300)
    assert torch.equal(experts.run(0, x, row_of[order], expert_of[order]), whole[order])


def test_many_pairs_for_some_experts_and_few_for_others(experts: ExpertSet) -> None:
    x, row_of, _ = call(experts, 60, 200)
    expert_of = torch.tensor(
        [1] * FEW_ROWS + [2] * (FEW_ROWS + 1) + [3] + [5] * (134 - 2 * FEW_ROWS) + [6] * 64
    )
    assert expert_of.shape == row_of.shape
    whole = experts.run(0, x, row_of, expert_of)
    for pair in (0, FEW_ROWS, 2 * FEW_ROWS + 1, 140, 199):
        alone = slice(pair, pair + 1)
        assert torch.equal(experts.run(0, x, row_of[alone], expert_of[alone]), whole[alone])


@pytest.mark.parametrize("rows", [1, 2, 40])
def test_order_and_type_of_the_indices_change_nothing(experts: ExpertSet, rows: int) -> None:
    x, row_of, expert_of = call(experts, rows, 90)
    whole = experts.run(0, x, row_of, expert_of)
    order = np.argsort(expert_of.numpy(), kind="stable")
    by_expert = experts.run(
        0, x, row_of.numpy()[order].astype(np.int32), expert_of.numpy()[order].astype(np.int32)
    )
    assert torch.equal(by_expert, whole[order])


def test_no_pairs(experts: ExpertSet) -> None:
    none = torch.empty(0, dtype=torch.int64)
    x = call(experts, 3, 1)[0]
    assert experts.run(0, x, none, none).shape == (0, x.shape[1])


def test_int32_indices_do(experts: ExpertSet) -> None:
    x, row_of, expert_of = call(experts, 9, 40)
    narrow = experts.run(0, x, row_of.int(), expert_of.int())
    assert torch.equal(narrow, experts.run(0, x, row_of, expert_of))


def test_arrays_do_and_are_best(experts: ExpertSet) -> None:
    x, row_of, expert_of = call(experts, 9, 40)
    expected = experts.run(0, x, row_of, expert_of)
    for integer in (np.int64, np.int32, np.uint8):
        arrays = (row_of.numpy().astype(integer), expert_of.numpy().astype(integer))
        assert torch.equal(experts.run(0, x, *arrays), expected)


def test_a_place_for_the_output(experts: ExpertSet) -> None:
    x, row_of, expert_of = call(experts, 9, 40)
    place = torch.full((42, x.shape[1]), 7.0, dtype=experts.dtype)
    out = experts.run(0, x, row_of, expert_of, out=place[1:41])
    assert out.data_ptr() == place[1:41].data_ptr()
    assert torch.equal(place[1:41], experts.run(0, x, row_of, expert_of))
    assert (place[[0, 41]] == 7).all()


def test_groups_of_any_size(experts: ExpertSet, monkeypatch: pytest.MonkeyPatch) -> None:
    x, row_of, expert_of = call(experts, 60, 300)
    expected = experts.run(0, x, row_of, expert_of)
    for pairs in (1, 50, 1000):
        monkeypatch.setattr("xpod_model.experts.GROUP_PAIRS", pairs)
        assert torch.equal(experts.run(0, x, row_of, expert_of), expected)


def test_an_expert_dropped_from_our_own_kernel(oracle_dirs: dict[str, Path]) -> None:
    experts = ExpertSet(Checkpoint.open(oracle_dirs["wide-heads"]), "bf16")
    experts.load(1, 3)
    experts.load(1, 4)
    x, pair = torch.randn(1, 64).bfloat16(), torch.tensor([0, 0])
    both = experts.run(1, x, pair, torch.tensor([3, 4]))
    experts.drop(1, 3)
    for wanted in ([3, 4], [4, 16], [-1, 4]):
        with pytest.raises(MissingExpert):
            experts.run(1, x, pair, torch.tensor(wanted))
    assert torch.equal(experts.run(1, x, pair[:1], torch.tensor([4])), both[1:])


def test_load_and_drop(oracle_dirs: dict[str, Path]) -> None:
    experts = ExpertSet(Checkpoint.open(oracle_dirs["dense-among"]))
    assert experts.held == set()
    experts.load(1, 3)
    experts.load(1, 3)
    assert experts.holds(1, 3)
    assert experts.held == {(1, 3)}
    x, one = torch.zeros(1, 48), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(MissingExpert, match="expert 0 of layer 1 is not held here") as caught:
        experts.run(1, x, one, one)
    assert (caught.value.layer, caught.value.expert) == (1, 0)
    experts.drop(1, 3)
    experts.drop(1, 3)
    assert experts.held == set()


@pytest.mark.parametrize(("layer", "expert"), [(0, 0), (1, 8), (1, -1), (99, 0)])
def test_no_such_expert(layer: int, expert: int, oracle_dirs: dict[str, Path]) -> None:
    experts = ExpertSet(Checkpoint.open(oracle_dirs["dense-among"]))
    with pytest.raises(ModelError, match=f"no expert {expert} in layer {layer}"):
        experts.load(layer, expert)


def test_a_bad_shape_is_seen_at_load(oracle_dirs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint.open(oracle_dirs["plain"])
    name = checkpoint.family.expert(0, 0).up
    monkeypatch.setitem(checkpoint._entries, name, checkpoint._entries["model.norm.weight"])
    with pytest.raises(TensorShape, match=name):
        ExpertSet(checkpoint).load(0, 0)


def test_dtype_is_checked(oracle_dirs: dict[str, Path]) -> None:
    checkpoint = Checkpoint.open(oracle_dirs["plain"])
    assert ExpertSet(checkpoint).dtype == DTYPES["fp32"]
    with pytest.raises(ModelError, match="dtype 'int4' is not supported; supported: auto, bf16, fp32"):
        ExpertSet(checkpoint, "int4")


def test_served_as_bytes_it_is_the_same(experts: ExpertSet) -> None:
    x, row_of, expert_of = call(experts, 9, 40)
    in_order = torch.sort(expert_of, stable=True).indices
    bits = to_bits(x).tobytes()
    for order in (in_order, torch.arange(40), in_order[:1]):  # the middle one is in no order
        lists = [part[order].numpy().astype(np.int32).tobytes() for part in (row_of, expert_of)]
        served = bytearray(len(order) * experts.row_bytes)
        experts.serve(1, bits, *lists, memoryview(served))
        assert bytes(served) == to_bits(experts.run(1, x, row_of[order], expert_of[order])).tobytes()


@pytest.mark.parametrize(("row", "expert"), [(9, 0), (-1, 0), (0, 16), (0, -1), (2**31 - 1, 0)])
def test_served_rows_and_experts_must_exist(experts: ExpertSet, row: int, expert: int) -> None:
    x, _, _ = call(experts, 9, 1)
    lists = [np.array(part, np.int32).tobytes() for part in ([0, row, 1], [0, expert, 1])]
    with pytest.raises(IndexError):
        experts.serve(1, to_bits(x).tobytes(), *lists, memoryview(bytearray(3 * experts.row_bytes)))
