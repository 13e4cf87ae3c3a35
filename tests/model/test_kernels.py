"""Each of torch's operations alone: a row's bits do not depend on the rows beside it."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xpod_model.attention import Attention
from xpod_model.gate import combine, gate_linear, top_experts
from xpod_model.groups import groups_of
from xpod_model.kv import KVCache, KVSpec
from xpod_model.linear import Linear
from xpod_model.mlp import GatedMlp
from xpod_model.norm import rms_norm
from xpod_model.plan import Plan, Segment
from xpod_model.tensors import DTYPES, copy_rows

ROWS = 200
WIDTHS = [(64, 64), (8, 64), (6, 48), (96, 33), (512, 1024), (3, 40), (131, 77), (256, 1536), (32, 3072)]
dtypes = st.sampled_from(["fp32", "bf16"])
cuts = st.lists(st.integers(1, ROWS - 1), max_size=12).map(lambda ends: sorted({0, *ends, ROWS}))


def draw(*shape: int, dtype: str, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DTYPES[dtype])


def same(kernel: object, x: Tensor, edges: list[int]) -> bool:
    """Whether the kernel gives the parts between the edges the bits that it gives them in the whole."""
    assert callable(kernel)
    whole = kernel(x)
    return all(torch.equal(kernel(x[a:b].clone()), whole[a:b]) for a, b in pairwise(edges))


@settings(max_examples=40, deadline=None)
@given(dtypes, st.sampled_from(WIDTHS), st.booleans(), cuts)
def test_linear(dtype: str, widths: tuple[int, int], biased: bool, edges: list[int]) -> None:
    n, k = widths
    linear = Linear(draw(n, k, dtype=dtype), draw(n, dtype=dtype) if biased else None)
    assert same(linear, draw(ROWS, k, dtype=dtype, seed=1), edges)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("widths", [(96, 80), (128, 2048), (64, 1536)], ids=str)
def test_linear_for_every_small_batch(dtype: str, threads: int, widths: tuple[int, int]) -> None:
    linear, x = Linear(draw(*widths, dtype=dtype)), draw(ROWS, widths[1], dtype=dtype, seed=1)
    whole = linear(x)
    torch.set_num_threads(threads)
    try:
        assert all(
            torch.equal(linear(x[i : i + m]), whole[i : i + m]) for m in range(1, 70) for i in (0, 5, 130)
        )
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_linear_is_a_linear_layer(dtype: str) -> None:
    weight, bias, x = (draw(*shape, dtype=dtype) for shape in ((50, 70), (50,), (9, 70)))
    exact = x.double() @ weight.double().T + bias.double()
    tolerance = 1e-6 if dtype == "fp32" else 0.01
    assert torch.allclose(Linear(weight, bias)(x).double(), exact, atol=10 * tolerance, rtol=tolerance)


def test_linear_without_onednn() -> None:
    weight, x = draw(50, 70, dtype="fp32"), draw(ROWS, 70, dtype="fp32", seed=1)
    linear = Linear(weight)
    linear.packed, linear.plain = None, weight
    assert torch.allclose(linear(x), x @ weight.T, atol=1e-4)
    assert same(linear, x, [0, 1, 4, 7, 64, 65, 130, ROWS])


@settings(max_examples=25, deadline=None)
@given(dtypes, st.sampled_from([24, 33, 64, 512]), cuts)
def test_gated_mlp(dtype: str, width: int, edges: list[int]) -> None:
    mlp = GatedMlp(*(draw(*s, dtype=dtype) for s in ((width, 48), (width, 48), (48, width))))
    assert same(mlp, draw(ROWS, 48, dtype=dtype, seed=1), edges)


@settings(max_examples=25, deadline=None)
@given(dtypes, st.sampled_from([16, 40, 64, 100, 1024]), cuts)
def test_norm(dtype: str, width: int, edges: list[int]) -> None:
    weight = draw(width, dtype=dtype)
    assert same(lambda x: rms_norm(x, weight, 1e-6), draw(ROWS, width, dtype=dtype, seed=1), edges)


@settings(max_examples=40, deadline=None)
@given(dtypes, st.sampled_from([(5, 5), (6, 2), (8, 1), (32, 8), (130, 8)]), st.booleans(), cuts)
def test_gate(dtype: str, counts: tuple[int, int], normalise: bool, edges: list[int]) -> None:
    linear = gate_linear(draw(counts[0], 48, dtype=dtype))
    x = draw(ROWS, 48, dtype=dtype, seed=1)
    for result in (0, 1):
        assert same(
            lambda rows, of=result: top_experts(linear(rows)[:, : counts[0]], counts[1], normalise)[of],
            x,
            edges,
        )


def test_gate_breaks_ties_towards_the_lower_index() -> None:
    experts, weights = top_experts(torch.tensor([[1.0, 3.0, 3.0, 0.0, 3.0]]), 3, True)
    assert experts.tolist() == [[1, 2, 4]]
    assert torch.allclose(weights, torch.full((1, 3), 1 / 3))


def test_gate_is_softmax_and_topk() -> None:
    logits = draw(50, 32, dtype="fp32")
    probabilities = torch.softmax(logits, -1)
    values, indices = torch.topk(probabilities, 8)
    experts, weights = top_experts(logits, 8, False)
    assert torch.equal(experts, indices)
    assert torch.equal(weights, values)


@settings(max_examples=25, deadline=None)
@given(dtypes, st.sampled_from([(1, 48), (2, 33), (8, 1024)]), cuts)
def test_combine(dtype: str, shape: tuple[int, int], edges: list[int]) -> None:
    outputs, weights = draw(ROWS, *shape, dtype=dtype), torch.rand(ROWS, shape[0]).to(DTYPES[dtype])
    whole = combine(outputs, weights)
    assert all(torch.equal(combine(outputs[a:b], weights[a:b]), whole[a:b]) for a, b in pairwise(edges))
    exact = (outputs.double() * weights.double().unsqueeze(-1)).sum(1)
    tolerance = 1e-6 if dtype == "fp32" else 0.004  # one rounding
    assert torch.allclose(whole.double(), exact, atol=1e-4, rtol=tolerance)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("threads", [1, 2])
def test_norm_and_combine_for_every_size(dtype: str, threads: int) -> None:
    x, weight = draw(700, 256, dtype=dtype, seed=1), draw(256, dtype=dtype)
    outputs, weights = x[:696].view(-1, 8, 256), torch.rand(87, 8).to(DTYPES[dtype])
    normed, combined = rms_norm(x, weight, 1e-6), combine(outputs, weights)
    torch.set_num_threads(threads)
    try:
        for m in (1, 2, 3, 31, 32, 64, 129, 500):
            for i in (0, 1, 77, 200):
                assert torch.equal(rms_norm(x[i : i + m], weight, 1e-6), normed[i : i + m])
                assert torch.equal(combine(outputs[i : i + m], weights[i : i + m]), combined[i : i + m])
    finally:
        torch.set_num_threads(1)


def test_combine_adds_in_slot_order() -> None:
    big, small = torch.full((1, 1, 4), 2.0**24), torch.ones(1, 1, 4)
    weights = torch.ones(1, 3)
    assert combine(torch.cat([big, small, -big], 1), weights).eq(0).all()
    assert combine(torch.cat([big, -big, small], 1), weights).eq(1).all()


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("width", [1, 6, 8, 64])
def test_copied_rows_are_the_rows(dtype: str, width: int) -> None:
    target, rows = draw(3, 50, width, dtype=dtype), draw(20, 3, width, dtype=dtype, seed=1).transpose(0, 1)
    places = torch.randperm(50)[:20]
    expected = target.clone()
    expected[:, places] = rows
    copy_rows(target, places, rows)
    assert torch.equal(target, expected)


HEADS = [(4, 4, 32), (4, 2, 64), (8, 2, 128), (8, 1, 64), (3, 1, 16), (5, 5, 8), (16, 4, 64)]


def attend(
    heads: tuple[int, int, int], dtype: str, chunks: list[int], total: int, *, beside: int = 0
) -> Tensor:
    """The whole attention output of a sequence of `total` tokens, in chunks, with `beside` neighbours of one token."""
    h, kv, d = heads
    spec = KVSpec((2 * kv * d,), dtype, plane=d)
    cache = KVCache(spec, (1 + beside) * spec.blocks_for(total + 64))
    attention = Attention(h, kv, d)
    q, k, v = (draw(total, n, d, dtype=dtype, seed=i) for i, n in enumerate((h, kv, kv)))
    blocks = cache.alloc(spec.blocks_for(total))
    others = [cache.alloc(spec.blocks_for(total + 64)) for _ in range(beside)]
    parts, done = [], 0
    while done < total:
        size = min(chunks[0], total - done)
        chunks = [*chunks[1:], chunks[0]]
        segments = [Segment([0], 17 * i % (total + 60), table) for i, table in enumerate(others)]
        segments.append(Segment([0] * size, done, blocks))
        plan = Plan.of(segments, cache)
        groups = groups_of(segments, plan, cache)
        pad = [draw(beside, n, d, dtype=dtype, seed=9) for n in (h, kv, kv)]
        rows = [torch.cat([p, x[done : done + size]]) for p, x in zip(pad, (q, k, v), strict=True)]
        cache.write(0, plan.slots, torch.cat(rows[1:], dim=1))
        parts.append(attention(rows[0], 0, cache, groups)[beside:])
        done += size
    return torch.cat(parts)


@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_attention_in_chunks(heads: tuple[int, int, int], dtype: str) -> None:
    whole = attend(heads, dtype, [150], 150)
    for chunks in ([1], [2], [3], [7], [16], [64], [100, 1]):
        assert torch.equal(attend(heads, dtype, chunks, 150), whole), chunks


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_attention_over_many_tiles(dtype: str) -> None:
    whole = attend((8, 2, 64), dtype, [1400], 1400)
    for chunks in ([333], [1300, 1]):
        assert torch.equal(attend((8, 2, 64), dtype, chunks, 1400), whole), chunks


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_attention_in_company(dtype: str) -> None:
    whole = attend((8, 2, 64), dtype, [300], 300)
    for beside in (1, 2, 9):
        assert torch.equal(attend((8, 2, 64), dtype, [290, 1], 300, beside=beside), whole)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_attention_is_attention(dtype: str) -> None:
    h, kv, d, total = 8, 2, 64, 300
    q, k, v = (draw(total, n, d, dtype=dtype, seed=i).double() for i, n in enumerate((h, kv, kv)))
    k, v = k.repeat_interleave(h // kv, 1), v.repeat_interleave(h // kv, 1)
    scores = torch.einsum("qhd,khd->hqk", q, k) / d**0.5
    scores += torch.full((total, total), float("-inf"), dtype=torch.float64).triu(1)
    exact = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1)
    found = attend((h, kv, d), dtype, [total], total).double()
    assert torch.allclose(found, exact, atol=1e-5 if dtype == "fp32" else 0.05)
