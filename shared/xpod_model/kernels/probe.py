"""Rows that give away in which order a product adds its terms."""

import numpy as np
import torch
from torch import Tensor

ROWS = 33


def telling_rows(weight: Tensor) -> Tensor | None:
    """x [33, k] for a weight [n, k], bf16: large terms that almost cancel in one output of each row.

    What is left there is mostly the rounding of partial sums, so any other order of adding gives other bits. None if
    no row of the weight has two numbers.
    """
    k = weight.shape[1]
    filled = weight.count_nonzero(dim=1).numpy() > 1  # rows of padding tell nothing
    if not filled.any():
        return None
    which = np.flatnonzero(filled)[np.linspace(0, filled.sum() - 1, ROWS).astype(np.int64)]
    w = weight[torch.from_numpy(which)].double().numpy()  # [33, k]
    x = _rounded(np.random.default_rng(k).standard_normal((ROWS, k)))
    rows = np.arange(ROWS)
    for place in np.argsort(-np.abs(w), axis=1)[:, :2].T:  # two roundings bring the sum near zero
        x[rows, place] = 0.0
        x[rows, place] = _rounded(-(x * w).sum(1) / w[rows, place])
    return torch.from_numpy(x).to(torch.bfloat16)


def _rounded(x: np.ndarray) -> np.ndarray:
    return torch.from_numpy(x).to(torch.bfloat16).double().numpy()
