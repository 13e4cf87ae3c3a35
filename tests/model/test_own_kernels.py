"""Our own kernels: the bits of oneDNN where they stand beside it, and the bits of a row alone everywhere."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xpod_model.gate import combine, gate_linear, top_experts
from xpod_model.kernels import FEW_ROWS, kernels
from xpod_model.kernels.library import Kernels
from xpod_model.kernels.machine import supported
from xpod_model.kernels.team import kernel_threads, set_kernel_threads
from xpod_model.kv import KVCache, KVSpec
from xpod_model.linear import Linear
from xpod_model.mlp import GatedMlp, silu_mul
from xpod_model.norm import rms_norm
from xpod_model.own_operations import OwnOperations, Pages
from xpod_model.plan import Segment
from xpod_model.reference import Reference
from xpod_model.rope import Rope, RopeConfig, rotate
from xpod_model.sampler import Sampling
from xpod_policy.holdings import sort_pairs

ROWS = 100
WIDTHS = [(64, 64), (192, 160), (1024, 512), (320, 1024), (64, 1536), (128, 2048), (64, 4096)]
HEADS = [(4, 4, 32), (4, 2, 64), (8, 2, 128), (8, 1, 64), (3, 1, 96), (12, 2, 32)]
cuts = st.lists(st.integers(1, ROWS - 1), max_size=12).map(lambda ends: sorted({0, *ends, ROWS}))


@pytest.fixture(scope="module")
def own() -> Kernels:
    """On a CPU without the instructions nothing may try to use them, and nothing else can be promised."""
    found = kernels()
    if found is None:
        assert not supported()
        pytest.xfail("this CPU has no AVX-512 bf16")
    return found


@pytest.fixture(params=["one", "torch's two", "our own two"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    torch.set_num_threads(2 if request.param == "torch's two" else 1)
    set_kernel_threads(2 if request.param == "our own two" else 0)
    yield kernel_threads()
    torch.set_num_threads(1)
    set_kernel_threads(0)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


@pytest.mark.parametrize(("n", "k"), WIDTHS)
def test_a_product_has_onednns_bits_for_any_number_of_rows(
    own: Kernels, n: int, k: int, threads: int
) -> None:
    linear, x = Linear(draw(n, k)), draw(ROWS, k, seed=1) * 3
    expected = torch.ops.mkldnn._linear_pointwise(x, linear.packed, None, "none", [], "")
    assert linear.product is not None
    for rows in (1, 2, 3, 5, 6, 7, 12, 13, FEW_ROWS, FEW_ROWS + 1):
        for begin in (0, 1, ROWS - rows):
            got = own.product(x[begin : begin + rows].contiguous(), linear.product)
            assert torch.equal(got, expected[begin : begin + rows]), (rows, begin)


def test_a_linear_has_the_same_bits_on_both_sides_of_the_switch(own: Kernels) -> None:
    linear, x = Linear(draw(256, 1024)), draw(FEW_ROWS + 1, 1024, seed=1)
    assert torch.equal(linear(x)[:FEW_ROWS], linear(x[:FEW_ROWS]))


@pytest.mark.parametrize(("n", "k"), [(32, 64), (64, 33), (100, 64), (64, 48)])
def test_a_shape_that_does_not_fill_panels_stays_with_onednn(own: Kernels, n: int, k: int) -> None:
    assert Linear(draw(n, k)).product is None


def test_a_weight_that_tells_nothing_is_not_adopted(own: Kernels) -> None:
    assert Linear(torch.zeros(64, 7680, dtype=torch.bfloat16)).product is None


@pytest.mark.parametrize("experts", [1, 20, 32, 96])
def test_a_gate_that_is_padded_is_adopted(own: Kernels, experts: int) -> None:
    width = 1024 + 64 * experts  # of this shape only: what is known of others does not help
    gate = gate_linear(draw(experts, width))
    assert gate.product is not None
    x = draw(FEW_ROWS + 1, width, seed=1)
    assert torch.equal(gate(x)[:1], gate(x[:1]))


def test_a_bias_and_fp32_stay_with_onednn(own: Kernels) -> None:
    assert Linear(draw(64, 64), draw(64)).product is None
    assert Linear(draw(64, 64).float()).product is None


def test_silu_is_correctly_rounded_for_every_number(own: Kernels) -> None:
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    every = every[every.isfinite() & (every.abs() < 80) & (every.abs() > 1e-37)]  # denormals become zero
    every = every[: len(every) // 16 * 16]
    got = own.silu_mul(torch.cat([every, torch.ones_like(every)])[None])[0]
    assert torch.equal(got, torch.nn.functional.silu(every.double()).bfloat16())


@pytest.mark.parametrize(
    ("x", "expected"), [(1000.0, 1000.0), (3e38, 3e38), (-1000.0, 0.0), (-88.5, 0.0), (math.inf, math.inf)]
)
def test_silu_of_large_numbers(own: Kernels, x: float, expected: float) -> None:
    got = own.silu_mul(torch.tensor([[x] * 16 + [1.0] * 16]).bfloat16())
    assert got[0, 0].item() == pytest.approx(expected, abs=1e-30, rel=0.01)


def test_nonsense_stays_nonsense(own: Kernels) -> None:
    nan = torch.full((1, 64), math.nan, dtype=torch.bfloat16)
    assert own.silu_mul(nan).isnan().all()
    assert own.add_norm(nan.clone(), None, draw(64), 1e-6).isnan().all()


def test_an_activated_row_does_not_know_its_company(own: Kernels, threads: int) -> None:
    x = draw(300, 512)
    whole = silu_mul(x)
    for rows in (1, 7, 8, 9, 200):
        assert torch.equal(silu_mul(x[:rows]), whole[:rows])
    assert torch.equal(torch.cat([silu_mul(row[None]) for row in x]), whole)


@settings(max_examples=25, deadline=None)
@given(cuts)
def test_an_mlp_alone_and_in_a_crowd(own: Kernels, edges: list[int]) -> None:
    mlp = GatedMlp(draw(192, 256), draw(192, 256, seed=1), draw(256, 192, seed=2))
    x = draw(ROWS, 256, seed=3)
    whole = mlp(x)
    assert mlp.products is not None
    assert all(torch.equal(mlp(x[a:b]), whole[a:b]) for a, b in pairwise(edges))


def test_norm_is_torchs_norm_and_adds_first(own: Kernels, threads: int) -> None:
    x, delta, weight = draw(300, 256), draw(300, 256, seed=1), draw(256, seed=2)
    added = x.clone()
    normed = own.add_norm(added, delta, weight, 1e-6)
    assert torch.equal(added, x + delta)
    assert torch.allclose(normed, rms_norm(x + delta, weight, 1e-6), rtol=0.01)
    for rows in (1, 7, 8, 9, 130):
        assert torch.equal(own.add_norm(x[:rows].clone(), delta[:rows], weight, 1e-6), normed[:rows])
    alone = x.clone()
    assert torch.equal(
        own.add_norm(alone, None, weight, 1e-6)[3:4], own.add_norm(x[3:4].clone(), None, weight, 1e-6)
    )
    assert torch.equal(alone, x)


@pytest.mark.parametrize("k", [1, 2, 8])
def test_combine_adds_in_slot_order(own: Kernels, k: int, threads: int) -> None:
    outputs, weights = draw(300, k, 256), torch.rand(300, k).bfloat16()
    whole = own.combine(outputs, weights)
    exact = (outputs.double() * weights.double().unsqueeze(-1)).sum(1)
    assert torch.allclose(whole.double(), exact, atol=1e-4, rtol=0.004)  # one rounding
    assert torch.allclose(whole, combine(outputs, weights), rtol=0.01, atol=1e-3)
    for rows in (1, 7, 200):
        assert torch.equal(
            own.combine(outputs[:rows].contiguous(), weights[:rows].contiguous()), whole[:rows]
        )
    big, small = torch.full((1, 1, 16), 2.0**24), torch.ones(1, 1, 16)
    ones = torch.ones(1, 3).bfloat16()
    assert own.combine(torch.cat([big, small, -big], 1).bfloat16(), ones).eq(0).all()
    assert own.combine(torch.cat([big, -big, small], 1).bfloat16(), ones).eq(1).all()


@pytest.mark.parametrize(("experts", "k"), [(16, 1), (32, 8), (128, 8), (512, 10), (1024, 16)])
@pytest.mark.parametrize("normalise", [True, False])
def test_the_gate_chooses_as_torch_does(own: Kernels, experts: int, k: int, normalise: bool) -> None:
    logits = draw(300, experts + 64) * 3
    logits[5, :experts] = 0.5  # nothing but ties
    logits[6, :experts] = -60.0
    logits[6, 3] = 60.0
    chosen, weights = own.choose(logits, experts, k, normalise)
    expected, exact = top_experts(logits[:, :experts], k, normalise)
    ranks = torch.arange(300) != 6  # where all others' probabilities are 0 in fp32, torch's order is by index
    assert torch.equal(chosen[ranks], expected[ranks])
    assert chosen[6, 0] == 3
    assert torch.allclose(weights.float(), exact, rtol=0.01, atol=1e-6)
    for rows in (1, 9, 200):
        again = own.choose(logits[:rows].contiguous(), experts, k, normalise)
        assert torch.equal(again[0], chosen[:rows])
        assert torch.equal(again[1], weights[:rows])


class Attended:
    """A sequence's heads and attention by our kernels, in chunks, with neighbours of one token."""

    def __init__(self, own: Kernels, shape: tuple[int, int, int], total: int, beside: int = 0) -> None:
        heads, kv, width = shape
        spec = KVSpec((2 * kv * width,), "bf16", plane=width)
        self.own, self.shape, self.total = own, shape, total
        self.cache = KVCache(spec, (1 + beside) * spec.blocks_for(total + 64))
        self.blocks = self.cache.alloc(spec.blocks_for(total))
        self.others = [self.cache.alloc(spec.blocks_for(total + 64)) for _ in range(beside)]
        self.qkv = draw(total, heads + 2 * kv, width)
        self.norm = draw(heads + kv, width, seed=5)
        self.rope = Rope(RopeConfig(10_000.0), width, torch.bfloat16)

    def run(self, chunks: list[int]) -> Tensor:
        parts, done = [], 0
        while done < self.total:
            size = min(chunks[0], self.total - done)
            chunks = [*chunks[1:], chunks[0]]
            parts.append(self.chunk(done, size))
            done += size
        return torch.cat(parts)

    def chunk(self, done: int, size: int) -> Tensor:
        segments = [Segment([0], 17 * i % (self.total + 60), table) for i, table in enumerate(self.others)]
        segments.append(Segment([0] * size, done, self.blocks))
        offsets = np.cumsum([0] + [len(segment.tokens) for segment in segments])
        positions = np.concatenate([np.arange(s.start, s.end) for s in segments])
        slots = np.concatenate([self.cache.slots(s.blocks, s.start, len(s.tokens)) for s in segments])
        beside = draw(len(self.others), *self.qkv.shape[1:], seed=9)
        queries = self.own.heads(
            torch.cat([beside, self.qkv[done : done + size]]),
            self.shape[0],
            norm=(self.norm, 1e-6),
            angles=self.rope.table(int(positions.max())),
            positions=torch.from_numpy(positions),
            slots=torch.from_numpy(slots),
            cache=self.cache.layers[0],
        )
        pages = Pages.of(segments, offsets)
        found = self.own.attend(queries, self.cache.layers[0], pages.pieces, int(positions.max()) + 1)
        return found[len(self.others) :]


@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_attention_in_chunks(own: Kernels, heads: tuple[int, int, int]) -> None:
    whole = Attended(own, heads, 150).run([150])
    for chunks in ([1], [2], [3], [7], [16], [64], [100, 1]):
        assert torch.equal(Attended(own, heads, 150).run(chunks), whole), chunks


def test_attention_far_into_a_sequence(own: Kernels, threads: int) -> None:
    whole = Attended(own, (8, 2, 64), 1400).run([1400])
    for chunks in ([333], [1300, 1]):
        assert torch.equal(Attended(own, (8, 2, 64), 1400).run(chunks), whole), chunks


def test_attention_in_company(own: Kernels, threads: int) -> None:
    whole = Attended(own, (8, 2, 64), 300).run([300])
    for beside in (1, 2, 9):
        assert torch.equal(Attended(own, (8, 2, 64), 300, beside).run([290, 1]), whole)


def test_attention_does_not_see_what_lay_in_its_blocks_before(own: Kernels) -> None:
    clean, dirty = (Attended(own, (4, 2, 64), 50) for _ in range(2))
    dirty.cache.layers[0].fill_(math.nan)
    assert torch.equal(dirty.run([20, 7]), clean.run([20, 7]))


@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_attention_is_attention(own: Kernels, heads: tuple[int, int, int]) -> None:
    h, kv, width = heads
    attended = Attended(own, heads, 300)
    qk = rms_norm(attended.qkv[:, : h + kv], attended.norm, 1e-6)
    qk = rotate(qk, *attended.rope.at(torch.arange(300), 300)).double()
    k = qk[:, h:].repeat_interleave(h // kv, 1)
    v = attended.qkv[:, h + kv :].double().repeat_interleave(h // kv, 1)
    scores = torch.einsum("qhd,khd->hqk", qk[:, :h], k) / width**0.5
    scores += torch.full((300, 300), -math.inf, dtype=torch.float64).triu(1)
    exact = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v)
    assert torch.allclose(attended.run([300]).double(), exact, atol=0.03, rtol=0.01)


def test_switched_off_a_product_has_the_same_bits(own: Kernels) -> None:
    code = """
import torch
from xpod_model.kernels import kernels
from xpod_model.linear import Linear
torch.manual_seed(9)
linear = Linear(torch.randn(128, 1024).bfloat16())
y = linear(torch.randn(5, 1024).bfloat16())
print(kernels() is None, linear.product is None, y.view(torch.int16).sum().item(), y.float().sum().item())
"""

    def run(switch: str) -> list[str]:
        env = {**os.environ, "XPOD_KERNELS": switch, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    with_own, without = run(""), run("torch")
    assert (with_own[:2], without[:2]) == (["False", "False"], ["True", "True"])
    assert with_own[2:] == without[2:]


@pytest.mark.parametrize("recipe", ["wide-heads"])
def test_a_program_has_the_bits_of_one_operation_after_the_other(
    own: Kernels, oracle_dirs: dict[str, Path], recipe: str, threads: int
) -> None:
    model = Reference.load(oracle_dirs[recipe], "bf16")
    prompts = [[7, 3, 200, 11], [9], [50] * 20]
    sampling = [Sampling(temperature=0.0, logprobs=0)] * 3
    assert model.half._programs is not None
    quick = model.generate_batch(prompts, sampling, 12)
    model.half._programs = None
    assert model.generate_batch(prompts, sampling, 12) == quick


def test_programs_want_experts_in_every_layer_and_no_bias(own: Kernels, oracle_dirs: dict[str, Path]) -> None:
    half = Reference.load(oracle_dirs["wider-heads-dense-bias"], "bf16").half
    assert isinstance(half._do, OwnOperations)
    assert half._programs is None


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.data())
def test_pairs_are_sorted_as_numpy_sorts_them(own: Kernels, data: st.DataObject) -> None:
    groups, experts = data.draw(st.integers(2, 6)), data.draw(st.integers(1, 40))
    tokens, k = data.draw(st.integers(0, 40)), data.draw(st.integers(1, 8))
    generator = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    keys = generator.integers(0, groups, experts + 1) * experts + np.append(np.arange(experts), 0)
    keys[-1] = (groups - 1) * experts
    chosen = generator.integers(-1, experts, (tokens, k))
    ours, theirs = own.sort_pairs(chosen, keys, groups), sort_pairs(chosen, keys, groups)
    assert ours[3] == theirs[3]
    for mine, numpys in zip(ours[:3], theirs[:3], strict=True):
        assert (mine.tolist(), mine.dtype) == (numpys.tolist(), numpys.dtype)
