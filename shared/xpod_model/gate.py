"""The gate: which experts a token goes to, and with what weight; and the sum of what comes back.

It knows nothing of where experts live.
"""

import torch
from torch import Tensor

from xpod_model.linear import Linear

# 24 bits of mantissa and exponent ordering survive in the high part of an int64; the low part breaks ties
LOW_BITS = 16
# products of more rows than this leave the cache before they are added
COMBINED_ROWS = 64


def top_experts(logits: Tensor, k: int, normalise: bool) -> tuple[Tensor, Tensor]:
    """logits [T, E] -> experts [T, K] int64, weights [T, K] fp32, heaviest first; ties go to the lower index.

    torch.topk leaves the order of ties open, and bf16 logits do tie. So it ranks integers that are all different:
    the bits of the probability (not negative, hence ordered as integers) above the inverted index.
    """
    probabilities = torch.softmax(logits, dim=-1, dtype=torch.float32)  # [T, E]
    last = logits.shape[-1] - 1
    inverted = torch.arange(last, -1, -1, device=logits.device)
    ranks = probabilities.view(torch.int32).to(torch.int64).mul_(1 << LOW_BITS).add_(inverted)
    top = torch.topk(ranks, k, dim=-1).values  # [T, K]
    experts = last - (top & ((1 << LOW_BITS) - 1))
    weights = (top >> LOW_BITS).to(torch.int32).view(torch.float32)
    if normalise:
        weights = weights / slot_sum(weights.unsqueeze(-1))
    return experts, weights


def slot_sum(rows: Tensor) -> Tensor:
    """rows [T, K, D] -> [T, D], added in slot order: torch.sum picks its order by shape."""
    total = rows[:, 0].clone()
    for slot in range(1, rows.shape[1]):
        total += rows[:, slot]
    return total


def combine(outputs: Tensor, weights: Tensor) -> Tensor:
    """outputs [T, K, D], weights [T, K] fp32 -> fp32 [T, D]: the weighted sum in slot order."""
    if outputs.shape[0] <= COMBINED_ROWS:
        return slot_sum(outputs * weights.unsqueeze(-1))
    parts = zip(torch.split(outputs, COMBINED_ROWS), torch.split(weights, COMBINED_ROWS), strict=True)
    return torch.cat([slot_sum(rows * heft.unsqueeze(-1)) for rows, heft in parts])


class Gate:
    """The router matrix of one layer. Weights are rounded to the model's dtype, as transformers does."""

    def __init__(self, weight: Tensor, k: int, normalise: bool) -> None:
        self._linear = Linear(weight)
        self._k, self._normalise, self._dtype = k, normalise, weight.dtype

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [T, D] -> experts [T, K] int64, weights [T, K] fp32."""
        experts, weights = top_experts(self._linear(x), self._k, self._normalise)
        return experts, weights.to(self._dtype).float()
