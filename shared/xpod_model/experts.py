"""A set of experts, held and run: a pure function from rows to rows. It knows neither gate nor weights nor network."""

import torch
from torch import Tensor

from xpod_model.checkpoint import Checkpoint
from xpod_model.errors import MissingExpert, ModelError
from xpod_model.families.base import mlp_shapes
from xpod_model.mlp import GatedMlp, silu_mul
from xpod_model.tensors import resolve_dtype


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
    def run(self, layer: int, rows: Tensor, row_of: Tensor, expert_of: Tensor) -> Tensor:
        """rows [R, D], row_of [P], expert_of [P] -> [P, D]: expert expert_of[p] applied to row row_of[p].

        Raises MissingExpert before any work. Pairs are sorted by expert, each expert runs once on its pairs, and the
        permutation is undone. Each output row depends on its row and its expert only, to the bit.
        """
        if row_of.numel() == 0:
            return rows.new_empty(0, rows.shape[1])
        order = torch.argsort(expert_of, stable=True)  # [P]
        counts = torch.bincount(expert_of).tolist()
        mlps = self._experts_for(layer, counts)
        sizes = [count for count in counts if count]
        x = rows.index_select(0, row_of.index_select(0, order))  # [P, D]
        hidden = _cat([mlp.gate_up(part) for mlp, part in zip(mlps, torch.split(x, sizes), strict=True)])
        parts = torch.split(silu_mul(hidden), sizes)
        y = _cat([mlp.down(part) for mlp, part in zip(mlps, parts, strict=True)])  # [P, D]
        return torch.empty_like(y).index_copy_(0, order, y)

    def _experts_for(self, layer: int, counts: list[int]) -> list[GatedMlp]:
        wanted = [expert for expert, count in enumerate(counts) if count]
        for expert in wanted:
            if (layer, expert) not in self._experts:
                raise MissingExpert(layer, expert)
        return [self._experts[layer, expert] for expert in wanted]


def _cat(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
