"""The gate: which experts a token goes to, and with what weight; and the sum of what comes back.

It knows nothing of where experts live.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from xpod_model.linear import WIDTH_STEP, Linear

# a probability's bits stand above an index of this many bits, which breaks ties
INDEX_BITS = 16


def top_experts(logits: Tensor, k: int, normalise: bool) -> tuple[Tensor, Tensor]:
    """logits [T, E] -> experts [T, K] int64, weights [T, K] fp32, heaviest first; ties go to the lower index.

    torch.topk leaves the order of ties open, and bf16 logits do tie. So it ranks integers that are all different:
    the bits of the probability (not negative, hence ordered as integers) above the inverted index.
    """
    probabilities = torch.softmax(logits, dim=-1, dtype=torch.float32)  # [T, E]
    bits = probabilities.view(torch.int32)
    ranks = torch.add(_inverted(logits.shape[-1], logits.device), bits, alpha=1 << INDEX_BITS)  # int64
    experts = torch.topk(ranks, k, dim=-1).indices  # [T, K]
    weights = probabilities.gather(1, experts)
    if normalise:
        # a running sum adds in slot order; torch.sum picks its order by shape
        weights = weights / weights.cumsum(-1)[:, -1:]
    return experts, weights


@lru_cache(maxsize=8)
def _inverted(experts: int, device: torch.device) -> Tensor:
    return torch.arange(experts - 1, -1, -1, device=device)


def combine(outputs: Tensor, weights: Tensor) -> Tensor:
    """outputs [T, K, D], weights [T, K] in the same dtype -> [T, D]: the weighted sum in slot order.

    A bag of embeddings is that sum: added one row after the other in fp32, rounded once, without intermediate tensors.
    """
    tokens, k, width = outputs.shape
    slots, bags = _bags(tokens, k, outputs.device)
    return torch.embedding_bag(
        outputs.reshape(-1, width), slots, bags, mode=0, per_sample_weights=weights.reshape(-1)
    )[0]


@lru_cache(maxsize=64)
def _bags(tokens: int, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Row numbers of [T * K] rows, and where each token's begin."""
    slots = torch.arange(tokens * k, device=device)
    return slots, slots[::k].clone()


def gate_linear(weight: Tensor) -> Linear:
    """The router matrix [E, D], with rows of zeros up to a size that our own product takes."""
    missing = -weight.shape[0] % WIDTH_STEP
    return Linear(F.pad(weight, (0, 0, 0, missing)) if missing else weight)
