"""RMSNorm (arXiv 1910.07467), computed in fp32 and rounded before the weight is applied, as transformers does."""

from functools import lru_cache

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x [..., D], weight broadcastable to x -> [..., D] in the dtype of x."""
    exact = x.to(torch.float32, copy=True)
    lengths = torch.linalg.vector_norm(exact, dim=-1, keepdim=True)  # [..., 1]
    variances = torch.addcmul(_constant(eps, x.device), lengths, lengths, value=1 / x.shape[-1])
    return exact.mul_(variances.rsqrt_()).to(x.dtype).mul_(weight)


@lru_cache(maxsize=8)
def _constant(value: float, device: torch.device) -> Tensor:
    return torch.tensor(value, device=device)
