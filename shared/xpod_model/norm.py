"""RMSNorm (arXiv 1910.07467), computed in fp32 and rounded before the weight is applied, as transformers does."""

import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x [..., D], weight broadcastable to x -> [..., D] in the dtype of x."""
    return F.rms_norm(x, (x.shape[-1],), None, eps) * weight
