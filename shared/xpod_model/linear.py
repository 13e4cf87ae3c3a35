"""A linear layer whose rows do not know of each other: y = x Wᵀ + b.

Row-invariance, measured with torch 2.13 on an AMD Zen 5 (AVX-512 bf16), in bf16 and fp32, on 1 and 2 threads:
oneDNN on a packed weight gives a row the same bits for M = 2…4096, at any offset, for N = 3…12288 and
K = 33…8192. A single row takes another path where K is above LONE_ROW_WIDTH, and in fp32 also where the weight was
packed for a batch of one. So a lone row gets company there, which costs little: the weight is read once either way.
Packing for 32 rows rather than for an unknown number also reads a wide weight (32,000 rows) a third faster.

That is so for vectors. Tiles (AMX) take another order of sums for another number of rows, so oneDNN may not use them,
wherever this module is imported before its first product. It would be 7 to 10 times as fast at 512 rows.

For few rows of bf16 our own kernel takes the place of oneDNN's, with the same bits (see `xpod_model.kernels`).
Without oneDNN (CUDA, some CPUs) every call has the same shape instead, BLOCK_ROWS rows, padded.
"""

import os

import torch
import torch.nn.functional as F
from torch import Tensor

from xpod_model.kernels import FEW_ROWS, kernels
from xpod_model.kernels.library import Kernels, Product

INSTRUCTIONS_VARIABLE = "ONEDNN_MAX_CPU_ISA"
INSTRUCTIONS = "AVX512_CORE_BF16"
os.environ.setdefault(INSTRUCTIONS_VARIABLE, INSTRUCTIONS)

PACK_ROWS = 32
BLOCK_ROWS = 64
LONE_ROW_WIDTH = 1024
# oneDNN keeps 0.6 MB for each number of rows that it has seen; measured, rounding up costs 2 % of 100 to 150 rows
ROWS_STEP = 8
# oneDNN's vector tails and torch's elementwise tails (two vectors of bf16) both end on this
WIDTH_STEP = 64


class Linear:
    """weight [N, K], bias [N] or None; call with x [M, K], M >= 1, to get [M, N] in the dtype of the weight."""

    __slots__ = ("_kernels", "_onednn", "bias", "packed", "plain", "product")

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.bias = bias
        self.packed: Tensor | None = None
        self.plain: Tensor | None = None
        self.product: Product | None = None
        self._kernels: Kernels | None = None
        if _has_onednn(weight):
            # the overload itself: looking it up in its packet costs 2 of 12 us
            self._onednn = torch.ops.mkldnn._linear_pointwise.default
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), PACK_ROWS)
            if bias is None and weight.dtype == torch.bfloat16:
                self._kernels = kernels()
            if self._kernels is not None:
                self.product = self._kernels.adopt(weight, self.packed)
        else:
            self.plain = weight.contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        if self.product is not None and x.shape[0] <= FEW_ROWS:
            assert self._kernels is not None
            return self._kernels.product(x.contiguous(), self.product)
        if self.packed is not None:
            missing = missing_rows(x.shape[0])
            if missing:
                return self(F.pad(x, (0, 0, 0, missing)))[:-missing]
            if x.shape[0] == 1 and x.shape[1] > LONE_ROW_WIDTH:
                return self(x.expand(2, -1).contiguous())[:1]
            y: Tensor = self._onednn(x, self.packed, self.bias, "none", [], "")
            return y
        return self._blockwise(x)

    def _blockwise(self, x: Tensor) -> Tensor:
        assert self.plain is not None
        rows = x.shape[0]
        padded = F.pad(x, (0, 0, 0, -rows % BLOCK_ROWS))
        blocks = [F.linear(block, self.plain, self.bias) for block in torch.split(padded, BLOCK_ROWS)]
        return torch.cat(blocks)[:rows] if len(blocks) > 1 else blocks[0][:rows]


def missing_rows(rows: int) -> int:
    """How many more rows a product had better have."""
    return -rows % ROWS_STEP if rows > FEW_ROWS else 0


def _has_onednn(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or not torch._C._has_mkldnn:
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32
