"""A set of experts, held and run: a pure function from rows to rows. It knows neither gate nor weights nor network."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xpod_model.bits import from_bits, to_bits
from xpod_model.checkpoint import Checkpoint
from xpod_model.errors import MissingExpert, ModelError
from xpod_model.expert_kernel import Addresses, ExpertKernel
from xpod_model.families.base import mlp_shapes
from xpod_model.kernels import FEW_ROWS, kernels
from xpod_model.kernels.library import Product
from xpod_model.linear import missing_rows
from xpod_model.mlp import GatedMlp, run_gated
from xpod_model.scratch import Scratch
from xpod_model.tensors import resolve_dtype

Ints = npt.NDArray[np.integer[Any]]
Indices = Tensor | Ints

# experts are activated together while their products fit into a core's L2 cache: few small operations, no slow copies
GROUP_PAIRS = 256


class ExpertSet:
    """Experts by (layer, expert), loaded and dropped one at a time. Not thread-safe: one thread owns it."""

    def __init__(self, checkpoint: Checkpoint, dtype: str = "auto", device: str = "cpu") -> None:
        self._checkpoint = checkpoint
        self.dtype = resolve_dtype(checkpoint, dtype)
        self.device = device
        self._experts: dict[tuple[int, int], GatedMlp] = {}
        self._scratch = Scratch()
        # per layer [E, 2]: the weights of experts that our own kernel runs, by address; 0 for others
        self._addresses: dict[int, Addresses] = {}
        self._shapes: tuple[Product, Product] | None = None
        self._quick: ExpertKernel | None = None

    @property
    def held(self) -> set[tuple[int, int]]:
        return set(self._experts)

    def holds(self, layer: int, expert: int) -> bool:
        return (layer, expert) in self._experts

    def load(self, layer: int, expert: int) -> None:
        """Map, check and pack one expert; does nothing if it is held. Raises ModelError."""
        if self.holds(layer, expert):
            return
        config = self._checkpoint.config
        if layer not in config.moe_layers or not 0 <= expert < config.experts:
            raise ModelError(f"the model has no expert {expert} in layer {layer}")
        names = self._checkpoint.family.expert(layer, expert)
        for name, shape in mlp_shapes(names, config.hidden, config.expert_width):
            self._checkpoint.check(name, shape)
        mlp = GatedMlp.read(self._checkpoint, names, self.dtype, self.device)
        self._experts[layer, expert] = mlp
        if mlp.products is not None:
            ours = self._addresses.setdefault(layer, np.zeros((config.experts, 2), np.int64))
            ours[expert] = [product.address for product in mlp.products]
            self._shapes = mlp.products
            if self._quick is None:
                self._quick = ExpertKernel(self._addresses, mlp.products)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self._checkpoint.config.hidden * self.dtype.itemsize

    def load_all(self) -> None:
        """Hold every expert of the model."""
        config = self._checkpoint.config
        for layer in config.moe_layers:
            for expert in range(config.experts):
                self.load(layer, expert)

    def drop(self, layer: int, expert: int) -> None:
        """Forget one expert; does nothing if it is not held."""
        if self._experts.pop((layer, expert), None) is not None and layer in self._addresses:
            self._addresses[layer][expert] = 0

    @torch.inference_mode()
    def run(
        self, layer: int, rows: Tensor, row_of: Indices, expert_of: Indices, out: Tensor | None = None
    ) -> Tensor:
        """rows [R, D], row_of [P], expert_of [P] -> [P, D]: expert expert_of[p] applied to row row_of[p].

        Raises MissingExpert before any work. Each output row depends on its row and its expert only, to the bit.
        Pairs are best sorted by expert, and indices numpy arrays; `out` [P, D], if given, is filled.
        """
        experts, of = _on_host(expert_of), _on_host(row_of)
        if out is None:
            out = rows.new_empty(experts.size, rows.shape[1])
        if (experts[1:] >= experts[:-1]).all():
            self._run_sorted(layer, rows, of, experts, out)
            return out
        order = np.argsort(experts.astype(np.uint16), kind="stable")  # [P]; 16 bits are sorted by radix
        in_order = torch.empty_like(out)
        self._run_sorted(layer, rows, of[order], experts[order], in_order)
        places = np.empty_like(order)
        places[order] = np.arange(order.size)
        # index_copy_ would save the list of places, but it copies element by element
        return torch.index_select(in_order, 0, torch.from_numpy(places).to(rows.device), out=out)

    def serve(self, layer: int, rows: bytes, row_of: bytes, expert_of: bytes, out: memoryview) -> None:
        """`run` on bytes, which is quicker for one call of few pairs: rows [R, D] -> out [P, D].

        Rows are in the model's dtype, indices int32; sizes are the caller's to check. Raises IndexError for a row or
        expert that does not exist, and MissingExpert.
        """
        if self._quick is not None and self._quick.serve(layer, rows, row_of, expert_of, out):
            return
        count = len(rows) // self.row_bytes
        kind = np.uint16 if self.dtype == torch.bfloat16 else np.float32
        x = np.frombuffer(rows, kind).reshape(count, -1)
        of, experts = np.frombuffer(row_of, np.int32), np.frombuffer(expert_of, np.int32)
        total = self._checkpoint.config.experts
        if min(of.min(), experts.min()) < 0 or of.max() >= count or experts.max() >= total:
            raise IndexError("no such row or expert")
        out[:] = to_bits(self.run(layer, from_bits(x, self.dtype, self.device), of, experts)).data.cast("B")

    def _run_sorted(self, layer: int, rows: Tensor, row_of: Ints, experts: Ints, out: Tensor) -> None:
        """Pairs in order of their experts -> out [P, D]."""
        ours = self._addresses.get(layer)
        if ours is None or not _all_few(ours, experts):
            parts = self._chosen(layer, experts)
            left = [
                part for part in parts if ours is None or part.size > FEW_ROWS or not ours[part.expert].all()
            ]
        else:
            left = []
        if ours is not None:
            self._run_few(ours, rows, row_of, experts, out)
        for group in _groups(left):
            # rows of the next part make up for what is missing to a good number of rows
            of = [row_of[part.begin : part.end + missing_rows(part.size)] for part in group]
            places = torch.from_numpy(np.concatenate(of).astype(np.int64, copy=False))
            x = rows.index_select(0, places.to(rows.device))
            results = run_gated([part.mlp for part in group], x, [part.size for part in of])
            for part, result in zip(group, results, strict=True):
                out[part.begin : part.end] = result[: part.size]

    def _run_few(self, ours: Addresses, rows: Tensor, row_of: Ints, experts: Ints, out: Tensor) -> None:
        """Experts with few pairs each, in one call of our own kernel."""
        own = kernels()
        assert own is not None
        assert self._shapes is not None
        gate_up, down = self._shapes
        widths = (gate_up.k, gate_up.n, down.k)
        own.experts(
            rows.contiguous(),
            np.ascontiguousarray(row_of, np.int32),
            np.ascontiguousarray(experts, np.int32),
            out,
            weights=ours,
            shapes=self._shapes,
            few=FEW_ROWS,
            scratch=[
                self._scratch.take(str(i), (len(out), width), rows.dtype, "cpu")
                for i, width in enumerate(widths)
            ],
        )

    def _chosen(self, layer: int, experts: Ints) -> "list[_Part]":
        """The experts that have pairs, in order."""
        chosen, begin = [], 0
        for expert, run in groupby(experts.tolist()):
            mlp = self._experts.get((layer, expert))
            if mlp is None:
                raise MissingExpert(layer, expert)
            end = begin + len(list(run))
            chosen.append(_Part(expert, mlp, begin, end))
            begin = end
        return chosen


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """An expert and its pairs."""

    expert: int
    mlp: GatedMlp
    begin: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.begin


def _all_few(ours: Addresses, experts: Ints) -> bool:
    """Will our own kernel do all of these, in order of experts?"""
    if not experts.size:
        return True
    if experts.min() < 0 or experts[-1] >= len(ours) or not ours[experts].all():
        return False
    return experts.size <= FEW_ROWS or bool(np.bincount(experts).max() <= FEW_ROWS)


def _on_host(indices: Indices) -> Ints:
    return indices.cpu().numpy() if isinstance(indices, Tensor) else indices


def _groups(parts: list[_Part]) -> Iterator[list[_Part]]:
    """Experts one after the other, in groups of at most GROUP_PAIRS pairs, or of one expert."""
    group: list[_Part] = []
    for part in parts:
        if group and sum(each.size for each in group) + part.size > GROUP_PAIRS:
            yield group
            group = []
        group.append(part)
    if group:
        yield group
