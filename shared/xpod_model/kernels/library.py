"""The kernels as methods on tensors. It knows tensors' addresses and oneDNN's packed weights, not models."""

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from llvmlite import ir
from torch import Tensor

from xpod_model.kernels.attend import add_attend, scratch_bytes
from xpod_model.kernels.choose import add_choose
from xpod_model.kernels.gated import add_experts, add_serve, add_silu_mul
from xpod_model.kernels.heads import add_heads
from xpod_model.kernels.machine import Kernel, Machine
from xpod_model.kernels.pairs import ARGUMENTS as PAIRS_ARGUMENTS
from xpod_model.kernels.pairs import add_sort_pairs
from xpod_model.kernels.probe import telling_rows
from xpod_model.kernels.product import PANEL, add_product
from xpod_model.kernels.rows import add_add_norm, add_combine, add_norm_row
from xpod_model.kernels.sequence import add_sequence
from xpod_model.kernels.team import kernel_threads

Int32s = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
SortedPairs = tuple[Ints, Int32s, Int32s, list[int]]
"""Places among the pairs as they were, their tokens, their experts, and where each group begins."""

# oneDNN sums a block of K apart; which of these it takes for a shape is found out by comparing
BLOCKS = (512, 1024)
K_STEP = 32
# work for several threads is worth their waking from so many elements on
GRAIN = 32_768
# a key is read with each row, which is less than a row's own work
ATTENTION_GRAIN = 64


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
        self._machine = Machine(_module())
        self._product, self._silu_mul, self._experts = self._get("product", "silu_mul", "experts")
        self._add_norm, self._combine, self._choose = self._get("add_norm", "combine", "choose")
        self._heads, self._attend = self._get("heads", "attend")
        self.address, self.run = self._machine.address, self._machine.run
        self.serve, self._sort_pairs = self._machine.serve(), self._machine.function("sort_pairs")
        self._blocks: dict[tuple[int, int], int] = {}

    def _get(self, *names: str) -> tuple[Kernel, ...]:
        return tuple(self._machine.kernel(name) for name in names)

    def adopt(self, weight: Tensor, packed: Tensor) -> Product | None:
        """A bf16 weight [n, k], as it is and packed by oneDNN, if our product has oneDNN's bits on it; None if not."""
        (n, k), ops = weight.shape, torch.ops.mkldnn
        if n % PANEL or k % K_STEP or ops._nbytes(packed) != 2 * n * k:
            return None
        address = ops.data_ptr(packed)
        block = self._blocks.get((n, k)) or self._find_block(weight, packed, address)
        if block is None:
            return None
        self._blocks[n, k] = block
        return Product(address, n, k, block)

    def _find_block(self, weight: Tensor, packed: Tensor, address: int) -> int | None:
        """The one block size that gives oneDNN's bits; None if none does, or if several would."""
        x, (n, k) = telling_rows(weight), weight.shape
        if x is None:
            return None
        expected = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
        sizes = sorted({min(size, k) for size in (*BLOCKS, k)})
        fits = [
            size for size in sizes if torch.equal(self.product(x, Product(address, n, k, size)), expected)
        ]
        return fits[0] if len(fits) == 1 else None

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
            threads=kernel_threads(),
        )
        return out

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """[M, 2 * width] -> silu(left half) * right half, [M, width]; width is a multiple of 16."""
        rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        out = torch.empty(rows, width, dtype=torch.bfloat16)
        self._silu_mul(gate_up.data_ptr(), rows, width, out.data_ptr(), threads=_threads(rows * width))
        return out

    def add_norm(self, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> Tensor:
        """x [M, D] += delta, in place; returns RMSNorm(x) * weight, [M, D]. D is a multiple of 16."""
        rows, width = x.shape
        out = torch.empty_like(x)
        added = 0 if delta is None else delta.data_ptr()
        addresses = (x.data_ptr(), added, rows, width, weight.data_ptr(), bits(eps), out.data_ptr())
        self._add_norm(*addresses, threads=_threads(rows * width))
        return out

    def combine(self, outputs: Tensor, weights: Tensor) -> Tensor:
        """outputs [M, K, D], weights [M, K] -> [M, D]: the weighted sum in slot order, in fp32, rounded once."""
        rows, k, width = outputs.shape
        out = torch.empty(rows, width, dtype=torch.bfloat16)
        addresses = (outputs.data_ptr(), weights.data_ptr(), rows, k, width, out.data_ptr())
        self._combine(*addresses, threads=_threads(rows * width))
        return out

    def choose(self, logits: Tensor, experts: int, k: int, normalise: bool) -> tuple[Tensor, Tensor]:
        """logits [M, at least `experts`] -> experts [M, K] int64, weights [M, K], heaviest first, ties to the lower.

        Within `choose.MOST_EXPERTS` and `choose.MOST_CHOSEN`; experts is a multiple of 16.
        """
        rows, columns = logits.shape
        chosen = torch.empty(rows, k, dtype=torch.int64)
        weights = torch.empty(rows, k, dtype=torch.bfloat16)
        addresses = (logits.data_ptr(), columns, rows, experts, k, int(normalise))
        self._choose(*addresses, chosen.data_ptr(), weights.data_ptr(), threads=_threads(rows * columns))
        return chosen, weights

    def heads(
        self,
        qkv: Tensor,
        heads: int,
        *,
        norm: tuple[Tensor, float] | None,
        angles: Tensor,
        positions: Tensor,
        slots: Tensor,
        cache: Tensor,
    ) -> Tensor:
        """Norm and rotate the heads of qkv [M, heads + 2 * KV heads, width], which is used up.

        norm: weight [heads + KV heads, width] and eps. angles [positions, 2 * width]: cosines and signed sines.
        Keys and values go to `slots` [M] of cache [2 * KV heads, blocks, 16, width]; returns queries [M, heads, width].
        """
        rows, all_heads, width = qkv.shape
        kv_heads = (all_heads - heads) // 2
        queries = torch.empty(rows, heads, width, dtype=torch.bfloat16)
        weight, eps = (0, 0.0) if norm is None else (norm[0].data_ptr(), norm[1])
        self._heads(
            qkv.data_ptr(),
            rows,
            heads,
            kv_heads,
            width,
            weight,
            bits(eps),
            *(part.data_ptr() for part in (angles, positions, slots, queries, cache)),
            2 * cache.stride(0),
            threads=_threads(qkv.numel()),
        )
        return queries

    def attend(self, queries: Tensor, cache: Tensor, pieces: npt.NDArray[np.int64], longest: int) -> Tensor:
        """queries [M, heads, width] over keys and values in cache [2 * KV heads, blocks, 16, width] -> the same shape.

        pieces [P, 4]: the first row of consecutive positions of one sequence, how many rows, the first's position,
        the address of the sequence's block table (int64). longest: keys that the last position of any piece sees.
        """
        _, heads, width = queries.shape
        kv_heads = cache.shape[0] // 2
        threads = _threads(queries.numel() * longest // ATTENTION_GRAIN)
        size = scratch_bytes(longest, width)
        scratch = torch.empty(threads, size, dtype=torch.uint8)
        out = torch.empty_like(queries)
        self._attend(
            len(pieces),
            pieces.ctypes.data,
            kv_heads,
            heads // kv_heads,
            width,
            queries.data_ptr(),
            out.data_ptr(),
            cache.data_ptr(),
            2 * cache.stride(0),
            bits(1 / math.sqrt(width)),
            scratch.data_ptr(),
            size,
            threads=threads,
        )
        return out

    def experts(
        self,
        rows: Tensor,
        row_of: Int32s,
        expert_of: Int32s,
        out: Tensor,
        *,
        weights: npt.NDArray[np.int64],
        shapes: tuple[Product, Product],
        few: int,
        scratch: Sequence[Tensor],
    ) -> None:
        """Gated MLPs on rows [R, D]: out[p] [P, D] is that of expert expert_of[p], sorted, on row row_of[p].

        weights [E, 2]: each expert's two addresses, of products like `shapes`, or 0. Left out are experts at 0 and
        those with more than `few` pairs. scratch: [P, D], [P, 2 * width], [P, width].
        """
        gate_up, down = shapes
        self._experts(
            len(weights),
            weights.ctypes.data,
            few,
            len(row_of),
            expert_of.ctypes.data,
            rows.data_ptr(),
            row_of.ctypes.data,
            gate_up.k,
            down.k,
            gate_up.block,
            down.block,
            *(part.data_ptr() for part in scratch),
            out.data_ptr(),
            threads=kernel_threads(),
        )

    def sort_pairs(self, experts: Ints, keys: Ints, groups: int) -> SortedPairs:
        """experts [T, K] of which -1 are not wanted, keys [E + 1] below groups * E; see `kernels.pairs`."""
        (tokens, k), count = experts.shape, experts.size
        out = np.empty(2 * count, np.int64)
        scratch = np.zeros(groups * len(keys), np.int64)
        at, pairs = scratch.ctypes.data, out.ctypes.data
        values = (ctypes.c_int64 * PAIRS_ARGUMENTS)(
            experts.ctypes.data, tokens, k, keys.ctypes.data, groups, len(keys) - 1, at + 8 * groups,
            pairs, pairs + 8 * count, pairs + 12 * count,
        )  # fmt: skip
        self._sort_pairs(ctypes.addressof(values))
        numbers = out[count:].view(np.int32)
        return out[:count], numbers[:count], numbers[count:], scratch[:groups].tolist()


def _module() -> ir.Module:
    module = ir.Module("xpod")
    panel, silu, norm = add_product(module), add_silu_mul(module), add_norm_row(module)
    add_experts(module, panel, silu)
    add_serve(module)
    add_add_norm(module, norm)
    add_heads(module, norm)
    for add in (add_combine, add_choose, add_attend, add_sequence, add_sort_pairs):
        add(module)
    return module


def bits(number: float) -> int:
    """An fp32 number as the integer that has its bits."""
    return int(np.float32(number).view(np.uint32))


def _threads(elements: int) -> int:
    return kernel_threads() if elements >= GRAIN else 1
