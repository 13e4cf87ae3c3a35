"""A set of experts, held and run: a pure function from rows to rows. It knows neither gate nor weights nor network."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xpod_model.checkpoint import Checkpoint
from xpod_model.errors import MissingExpert, ModelError
from xpod_model.families.base import mlp_shapes
from xpod_model.mlp import GatedMlp, run_gated
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
        self._experts[layer, expert] = GatedMlp.read(self._checkpoint, names, self.dtype, self.device)

    def load_all(self) -> None:
        """Hold every expert of the model."""
        config = self._checkpoint.config
        for layer in config.moe_layers:
            for expert in range(config.experts):
                self.load(layer, expert)

    def drop(self, layer: int, expert: int) -> None:
        """Forget one expert; does nothing if it is not held."""
        self._experts.pop((layer, expert), None)

    @torch.inference_mode()
    def run(
        self, layer: int, rows: Tensor, row_of: Indices, expert_of: Indices, out: Tensor | None = None
    ) -> Tensor:
        """rows [R, D], row_of [P], expert_of [P] -> [P, D]: expert expert_of[p] applied to row row_of[p].

        Raises MissingExpert before any work. Each output row depends on its row and its expert only, to the bit.
        Pairs are best sorted by expert, and indices numpy arrays; `out` [P, D], if given, is filled.
        """
        experts, of = _on_host(expert_of), _on_host(row_of)
        if experts.size == 0:
            return rows.new_empty(0, rows.shape[1]) if out is None else out
        if (experts[1:] >= experts[:-1]).all():
            return _cat(self._run_sorted(layer, rows, of, experts), out)
        order = np.argsort(experts.astype(np.uint16), kind="stable")  # [P]; 16 bits are sorted by radix
        parts = self._run_sorted(layer, rows, of[order], experts[order])
        places = np.empty_like(order)
        places[order] = np.arange(order.size)
        # index_copy_ would save the list of places, but it copies element by element
        return torch.index_select(_cat(parts), 0, torch.from_numpy(places).to(rows.device), out=out)

    def _run_sorted(self, layer: int, rows: Tensor, row_of: Ints, experts: Ints) -> list[Tensor]:
        """Pairs in order of their experts -> an output an expert, [pairs of the expert, D]."""
        chosen = self._chosen(layer, experts)
        index = torch.from_numpy(row_of.astype(np.int64, copy=False)).to(rows.device)
        parts: list[Tensor] = []
        begin = 0
        for group, sizes in _groups(chosen):
            end = begin + sum(sizes)
            alone = rows.shape[0] == 1  # nothing to gather
            x = rows.expand(end - begin, -1) if alone else rows.index_select(0, index[begin:end])
            parts += run_gated(group, x, sizes)
            begin = end
        return parts

    def _chosen(self, layer: int, experts: Ints) -> list[tuple[GatedMlp, int]]:
        """The experts that have pairs, in order, with how many."""
        chosen = []
        for expert, run in groupby(experts.tolist()):
            if (layer, expert) not in self._experts:
                raise MissingExpert(layer, expert)
            chosen.append((self._experts[layer, expert], len(list(run))))
        return chosen


def _cat(parts: list[Tensor], out: Tensor | None = None) -> Tensor:
    return parts[0] if len(parts) == 1 and out is None else torch.cat(parts, out=out)


def _on_host(indices: Indices) -> Ints:
    return indices.cpu().numpy() if isinstance(indices, Tensor) else indices


def _groups(chosen: list[tuple[GatedMlp, int]]) -> Iterator[tuple[list[GatedMlp], list[int]]]:
    """Experts one after the other with their counts of pairs, in groups of at most GROUP_PAIRS, or of one expert."""
    group: list[GatedMlp] = []
    sizes: list[int] = []
    for mlp, count in chosen:
        if group and sum(sizes) + count > GROUP_PAIRS:
            yield group, sizes
            group, sizes = [], []
        group.append(mlp)
        sizes.append(count)
    yield group, sizes
