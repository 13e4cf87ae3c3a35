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

from xpod_model.config import ModelConfig, RopeConfig
from xpod_model.gate import gate_linear
from xpod_model.kv import KVCache, KVSpec
from xpod_model.linear import Linear
from xpod_model.makes import operations_for
from xpod_model.mlp import GatedMlp
from xpod_model.operations import Operations
from xpod_model.plan import Plan, Segment
from xpod_model.sampler import Sampling, sample
from xpod_model.tensors import DTYPES

TOKENS, VOCAB = 300, 512
PROBE = ModelConfig(
    model_type="probe",
    layers=1,
    hidden=256,
    heads=8,
    kv_heads=2,
    head_dim=64,
    vocab=VOCAB,
    experts=32,
    experts_per_token=4,
    expert_width=192,
    dense_width=0,
    moe_layers=(0,),
    norm_topk_prob=True,
    attention_bias=False,
    rms_eps=1e-6,
    tie_embeddings=False,
    max_positions=TOKENS,
    rope=RopeConfig(10_000.0),
    dtype="bf16",
    eos_token_ids=(),
)
QKV = (PROBE.heads + 2 * PROBE.kv_heads) * PROBE.head_dim


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

    do = operations_for(PROBE, dtype, device)
    x, norm = probe(TOKENS, PROBE.hidden), probe(PROBE.hidden)
    x, h = do.add_norm(x, probe(TOKENS, PROBE.hidden), norm)
    yield from (x, h)
    weight, bias = probe(QKV, PROBE.hidden), probe(QKV)
    for linear in (Linear(weight), Linear(weight, bias)):
        yield linear(h)
    qkv = Linear(weight)(h) / 16
    attended = _attend(do, qkv, probe(PROBE.head_dim), name, device)
    yield attended
    mlp = GatedMlp(probe(192, PROBE.hidden), probe(192, PROBE.hidden), probe(PROBE.hidden, 192))
    yield mlp(h)
    experts, weights = do.choose(gate_linear(probe(PROBE.experts, PROBE.hidden))(h) / 16)
    outputs = probe(TOKENS, PROBE.experts_per_token, PROBE.hidden)
    yield from (experts, weights, do.combine(outputs, weights))
    logits = Linear(probe(VOCAB, PROBE.hidden))(h[:1]).float()[0] / 64
    drawn = sample(logits, Sampling(temperature=0.8, top_p=0.9, seed=7), 11)
    yield torch.tensor([drawn.token, drawn.logprob], dtype=torch.float64)


def _attend(do: Operations, qkv: Tensor, norm: Tensor, dtype: str, device: str) -> Tensor:
    """The heads' norm, rotation and attention of one chunk, over more than one tile of values."""
    cache = KVCache(KVSpec.of(PROBE, dtype), TOKENS // 16 + 1, device)
    segments = [Segment([0] * TOKENS, 0, cache.alloc(cache.num_blocks))]
    attend = do.attention(segments, Plan.of(segments, cache), cache)
    return attend(0, qkv, norm.expand(PROBE.heads + PROBE.kv_heads, -1).contiguous())
