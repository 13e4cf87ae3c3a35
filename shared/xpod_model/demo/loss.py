"""Cross-entropy over a large vocabulary, a chunk of tokens at a time, so that no [T, V] matrix is ever held.

It knows matrices and labels. It knows nothing of the network.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["chunked_loss"]

CHUNK = 256


class ChunkedLoss(torch.autograd.Function):
    """The gradients are computed with the loss: the logits of a chunk are at hand only then."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, embedding: Tensor, labels: Tensor, compute: torch.dtype) -> Tensor:
        weight, total = embedding.to(compute), hidden.new_zeros(())
        by_hidden, by_weight = torch.empty_like(hidden), torch.zeros_like(embedding)
        for start in range(0, len(labels), CHUNK):
            part, label = slice(start, start + CHUNK), labels[start : start + CHUNK, None]
            rows = hidden[part].to(compute)
            log = F.log_softmax(F.linear(rows, weight).float(), -1)  # [CHUNK, V]
            total -= log.gather(1, label).sum()
            slope = log.exp_()
            slope.scatter_add_(1, label, -torch.ones_like(label, dtype=slope.dtype))
            slope = slope.to(compute)
            by_hidden[part] = slope @ weight
            by_weight += slope.mT @ rows
        ctx.save_for_backward(by_hidden, by_weight)
        ctx.count = len(labels)
        return total / len(labels)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        by_hidden, by_weight = ctx.saved_tensors
        scale = grads[0] / ctx.count
        return by_hidden * scale, by_weight * scale, None, None


def chunked_loss(hidden: Tensor, embedding: Tensor, labels: Tensor, compute: torch.dtype) -> Tensor:
    """hidden [T, D], embedding [V, D], labels [T] -> the mean loss."""
    return cast(Tensor, ChunkedLoss.apply(hidden, embedding, labels, compute))  # type: ignore[no-untyped-call]
