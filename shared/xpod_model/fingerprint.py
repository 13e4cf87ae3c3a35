"""A name for how this process computes: equal fingerprints promise equal tokens. It knows kernels, not models.

Every kernel runs once on fixed inputs, and the bits of all results are hashed. Another CPU, another torch, another
library underneath gives other bits somewhere in here if it gives other bits at all.
"""

import hashlib
from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from torch import Tensor

from xpod_model.attention import Attention
from xpod_model.families.base import RopeConfig
from xpod_model.gate import combine, top_experts
from xpod_model.kv import KVCache, KVSpec
from xpod_model.linear import Linear
from xpod_model.mlp import GatedMlp
from xpod_model.norm import rms_norm
from xpod_model.plan import Plan, Segment
from xpod_model.rope import Rope, rotate
from xpod_model.sampler import Sampling, sample
from xpod_model.tensors import DTYPES

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, EXPERTS, SLOTS, TOKENS, VOCAB = 256, 8, 2, 64, 32, 4, 300, 512


@cache
def numerics_fingerprint(dtype: str, device: str = "cpu") -> str:
    """Hex hash of every kernel's results on a fixed probe, for dtype bf16 or fp32. About 50 ms, once a process."""
    digest = hashlib.sha256(dtype.encode())
    with torch.inference_mode():
        for result in _results(dtype, device):
            digest.update(result.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _results(name: str, device: str) -> Iterator[Tensor]:
    numbers = np.random.default_rng(20260)
    dtype = DTYPES[name]

    def probe(*shape: int) -> Tensor:
        # multiples of 1/128: exact in bf16, and made without any function that could itself differ
        whole = numbers.integers(-256, 257, size=shape, dtype=np.int64)
        return torch.from_numpy(whole / 128.0).to(device=device, dtype=dtype)

    x, norm = probe(TOKENS, HIDDEN), probe(HIDDEN)
    h = rms_norm(x, norm, 1e-6)
    yield h
    weight, bias = probe((HEADS + 2 * KV_HEADS) * HEAD_DIM, HIDDEN), probe((HEADS + 2 * KV_HEADS) * HEAD_DIM)
    qkv = Linear(weight, bias)(h) / 16
    yield qkv
    yield _attention(qkv.view(TOKENS, -1, HEAD_DIM), name, device)
    yield GatedMlp(probe(192, HIDDEN), probe(192, HIDDEN), probe(HIDDEN, 192))(h)
    experts, weights = top_experts(Linear(probe(EXPERTS, HIDDEN))(h) / 16, SLOTS, True)
    yield from (experts, weights, combine(probe(TOKENS, SLOTS, HIDDEN), weights.to(dtype)))
    logits = Linear(probe(VOCAB, HIDDEN))(h[:1]).float()[0] / 64
    drawn = sample(logits, Sampling(temperature=0.8, top_p=0.9, seed=7), 11)
    yield torch.tensor([drawn.token, drawn.logprob], dtype=torch.float64)


def _attention(qkv: Tensor, dtype: str, device: str) -> Tensor:
    """Rotary embedding and attention of one chunk, over more than one value tile."""
    cache = KVCache(KVSpec((2 * KV_HEADS * HEAD_DIM,), dtype, plane=HEAD_DIM), TOKENS // 16 + 1, device)
    plan = Plan.of([Segment([0] * TOKENS, 0, cache.alloc(cache.num_blocks))], cache)
    rope = Rope(RopeConfig(10_000.0), HEAD_DIM, DTYPES[dtype], device)
    qk = rotate(qkv[:, : HEADS + KV_HEADS], *rope.at(plan.positions, plan.highest))
    cache.write(0, plan.slots, torch.cat([qk[:, HEADS:], qkv[:, HEADS + KV_HEADS :]], dim=1))
    return Attention(HEADS, KV_HEADS, HEAD_DIM)(qk[:, :HEADS], 0, cache, plan)
