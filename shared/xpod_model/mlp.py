"""The gated MLP (SwiGLU, arXiv 2002.05202), dense or expert: down(silu(gate(x)) * up(x)). It knows no routing."""

import torch
import torch.nn.functional as F
from torch import Tensor

from xpod_model.checkpoint import Checkpoint
from xpod_model.families.base import MlpNames
from xpod_model.kernels import kernels
from xpod_model.kernels.library import Product
from xpod_model.linear import WIDTH_STEP, Linear
from xpod_model.tensors import read

# at::parallel_for splits longer runs between threads, at any element
GRAIN = 32_768


class GatedMlp:
    """Two packed linears. The width is padded to a multiple of 64 with zeros, so that no vector has a tail."""

    __slots__ = ("down", "gate_up", "products")

    def __init__(self, gate: Tensor, up: Tensor, down: Tensor) -> None:
        missing = -gate.shape[0] % WIDTH_STEP
        rows = [F.pad(part, (0, 0, 0, missing)) if missing else part for part in (gate, up)]
        self.gate_up = Linear(torch.cat(rows))  # [2 * width, D]
        self.down = Linear(F.pad(down, (0, missing)) if missing else down)  # [D, width]
        both = self.gate_up.product, self.down.product
        # for our own kernel, if it takes the place of both
        self.products: tuple[Product, Product] | None = (
            None if both[0] is None or both[1] is None else (both[0], both[1])
        )

    @classmethod
    def read(
        cls, checkpoint: Checkpoint, names: MlpNames, dtype: torch.dtype, device: str = "cpu"
    ) -> "GatedMlp":
        return cls(*(read(checkpoint, name, dtype, device) for name in (names.gate, names.up, names.down)))

    def __call__(self, x: Tensor) -> Tensor:
        """x [M, D] -> [M, D]"""
        return self.down(silu_mul(self.gate_up(x)))


def run_gated(mlps: list[GatedMlp], x: Tensor, sizes: list[int]) -> list[Tensor]:
    """x [sum of sizes, D] -> one [size, D] an MLP: each on its own rows, activated together."""
    hidden = [mlp.gate_up(part) for mlp, part in zip(mlps, torch.split(x, sizes), strict=True)]
    active = silu_mul(hidden[0] if len(hidden) == 1 else torch.cat(hidden))
    return [mlp.down(part) for mlp, part in zip(mlps, torch.split(active, sizes), strict=True)]


def silu_mul(gate_up: Tensor) -> Tensor:
    """[M, 2 * width] -> silu(left half) * right half, [M, width]; width is a multiple of 64.

    exp has other bits in a vector than in the scalar loop that torch runs at the end of a range, so ranges must end
    on vectors: rows do, and with several threads the rows are given in runs too short to be split.
    """
    own = kernels() if gate_up.dtype == torch.bfloat16 and gate_up.device.type == "cpu" else None
    if own is not None:
        return own.silu_mul(gate_up.contiguous())
    width = gate_up.shape[1] // 2
    if gate_up.shape[0] * width < GRAIN or torch.get_num_threads() == 1:
        return F.silu(gate_up[:, :width]).mul_(gate_up[:, width:])
    rows = max(1, GRAIN // width - 1)
    return torch.cat([F.silu(run[:, :width]).mul_(run[:, width:]) for run in torch.split(gate_up, rows)])
