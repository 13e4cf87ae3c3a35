"""Rows that give away in which order a product adds its terms."""

import numpy as np
import torch
from torch import Tensor

ROWS = 33


def telling_rows(weight: Tensor) -> Tensor | None:
    """x [33, k] for a weight [n, k], bf16: large terms that almost cancel in one output of each row.

    What is left there is mostly the rounding of partial sums, so any other order of adding gives other bits. None if
    the weight has no such rows, because it is zero.
    """
    n, k = weight.shape
    which = np.linspace(0, n - 1, ROWS).astype(np.int64)
    w = weight[torch.from_numpy(which)].double().numpy()  # [33, k]
    x = _rounded(np.random.default_rng(k).standard_normal((ROWS, k)))
    rows = np.arange(ROWS)
    for place in np.argsort(-np.abs(w), axis=1)[:, :2].T:  # two roundings bring the sum near zero
        if not w[rows, place].all():
            return None
        x[rows, place] = 0.0
        x[rows, place] = _rounded(-(x * w).sum(1) / w[rows, place])
    return torch.from_numpy(x).to(torch.bfloat16)


def _rounded(x: np.ndarray) -> np.ndarray:
    return torch.from_numpy(x).to(torch.bfloat16).double().numpy()
