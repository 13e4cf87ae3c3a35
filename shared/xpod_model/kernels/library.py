"""The kernels as methods on tensors. It knows tensors' addresses and oneDNN's packed weights, not models."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from llvmlite import ir
from torch import Tensor

from xpod_model.kernels.gated import add_experts, add_silu_mul
from xpod_model.kernels.machine import Machine
from xpod_model.kernels.product import PANEL, add_product

# oneDNN sums a block of K apart; which of these it takes for a shape is found out by comparing
BLOCKS = (512, 1024)
PROBE_ROWS = 33
K_STEP = 32
# work for several threads is worth their waking from so many elements on
GRAIN = 32_768


@dataclass(frozen=True, slots=True)
class Product:
    """A packed weight [n, k] that `Kernels.product` can multiply with; valid as long as the weight lives."""

    address: int
    n: int
    k: int
    block: int


class Kernels:
    """All kernels, compiled. Rows are contiguous bf16 tensors on the CPU."""

    def __init__(self) -> None:
        module = ir.Module("xpod")
        panel = add_product(module)
        add_experts(module, panel, add_silu_mul(module))
        self._machine = Machine(module)
        self._product, self._silu_mul, self._experts = (
            self._machine.kernel(name) for name in ("product", "silu_mul", "experts")
        )
        self._blocks: dict[tuple[int, int], int] = {}

    def adopt(self, packed: Tensor, n: int, k: int) -> Product | None:
        """A bf16 weight [n, k] packed by oneDNN, if our product on it has oneDNN's bits; None if not."""
        ops = torch.ops.mkldnn
        if n % PANEL or k % K_STEP or ops._nbytes(packed) != 2 * n * k:
            return None
        address = ops.data_ptr(packed)
        block = self._blocks.get((n, k)) or self._find_block(packed, address, n, k)
        if block is None:
            return None
        self._blocks[n, k] = block
        return Product(address, n, k, block)

    def _find_block(self, packed: Tensor, address: int, n: int, k: int) -> int | None:
        """The one block size that gives oneDNN's bits on random rows; None if none does, or if any would."""
        random = np.random.default_rng(k).standard_normal((PROBE_ROWS, k), np.float32)
        x = torch.from_numpy(random).to(torch.bfloat16)
        expected = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
        sizes = sorted({min(size, k) for size in (*BLOCKS, k)})
        fitting = [
            size for size in sizes if torch.equal(self.product(x, Product(address, n, k, size)), expected)
        ]
        return fitting[0] if len(fitting) == 1 and expected.any() else None

    def product(self, x: Tensor, weight: Product) -> Tensor:
        """x [M, k] -> [M, n]"""
        rows, n = x.shape[0], weight.n
        out = torch.empty(rows, n, dtype=torch.bfloat16)
        self._product(
            x.data_ptr(),
            rows,
            weight.k,
            weight.block,
            weight.address,
            n // PANEL,
            out.data_ptr(),
            2 * n,
            threads=torch.get_num_threads(),
        )
        return out

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """[M, 2 * width] -> silu(left half) * right half, [M, width]; width is a multiple of 16."""
        rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        out = torch.empty(rows, width, dtype=torch.bfloat16)
        threads = torch.get_num_threads() if rows * width >= GRAIN else 1
        self._silu_mul(gate_up.data_ptr(), rows, width, out.data_ptr(), threads=threads)
        return out

    def experts(
        self,
        rows: Tensor,
        row_of: npt.NDArray[np.int32],
        out: Tensor,
        *,
        table: npt.NDArray[np.int64],
        gate_up: Product,
        down: Product,
        scratch: Sequence[Tensor],
    ) -> None:
        """Gated MLPs on rows [R, D] -> their part of out [P, D].

        table [experts, 4]: an expert's first pair, the one after its last, its two weights' addresses, all of the
        shapes of `gate_up` and `down`; pair p takes row row_of[p]. scratch: [P, D], [P, 2 * width], [P, width].
        """
        self._experts(
            len(table),
            table.ctypes.data,
            rows.data_ptr(),
            row_of.ctypes.data,
            gate_up.k,
            down.k,
            gate_up.block,
            down.block,
            *(part.data_ptr() for part in scratch),
            out.data_ptr(),
            threads=min(len(table), torch.get_num_threads()),
        )
