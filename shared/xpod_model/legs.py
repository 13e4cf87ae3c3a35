"""A leg: what the attention half computes between two hops, from a layer's combined outputs to the next question.

`PlainLegs` calls one operation after the other; it does for every model and any number of rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from xpod_model.bits import from_bits, to_bits
from xpod_model.layer import Layer
from xpod_model.operations import Attend, Operations

Bits = npt.NDArray[Any]
Outputs = Tensor | Bits
"""What came back, [T, K, D]: as a tensor, or as plain bits (see `xpod_model.bits`)."""


@dataclass(frozen=True, slots=True)
class ExpertBatch:
    """What one MoE layer asks of its experts: each row, through each of its K experts."""

    layer: int
    rows: Tensor  # [T, D] in the model's dtype
    experts: Tensor  # [T, K] int64
    known_bits: tuple[Bits, Bits] | None = None

    @property
    def bits(self) -> tuple[Bits, Bits]:
        """rows and experts as arrays."""
        return self.known_bits or (to_bits(self.rows), to_bits(self.experts))


class Legs(ABC):
    """One forward's legs, to be run in the order of the layers."""

    @abstractmethod
    def run(self, layer: int, outputs: Outputs | None) -> ExpertBatch | None:
        """Combine the outputs of the last question, if there was one; None: this layer asks nobody."""

    @abstractmethod
    def end(self, outputs: Outputs | None) -> tuple[Tensor, Tensor | None]:
        """Rows [T, D] after all layers, and what is still to be added to them."""


class PlainLegs(Legs):
    """Operation by operation. x [T, D] is used up."""

    def __init__(self, layers: Sequence[Layer], do: Operations, attend: Attend, x: Tensor) -> None:
        self._layers, self._do, self._attend, self._x = layers, do, attend, x
        self._delta: Tensor | None = None
        self._weights: Tensor | None = None

    @torch.inference_mode()
    def run(self, layer: int, outputs: Outputs | None) -> ExpertBatch | None:
        self._combine(outputs)
        part = self._layers[layer]
        x, h = self._do.add_norm(self._x, self._delta, part.input_norm)
        attended = self._attend(layer, part.qkv(h), part.head_norm)
        self._x, h = self._do.add_norm(x, part.out(attended), part.mlp_norm)
        if part.gate is None:
            self._delta = part.dense_mlp(h)
            return None
        experts, self._weights = self._do.choose(part.gate(h))
        return ExpertBatch(layer, h, experts)

    def end(self, outputs: Outputs | None) -> tuple[Tensor, Tensor | None]:
        self._combine(outputs)
        return self._x, self._delta

    def _combine(self, outputs: Outputs | None) -> None:
        if outputs is not None:
            assert self._weights is not None
            self._delta = self._do.combine(as_tensor(outputs, self._x), self._weights)


def as_tensor(outputs: Outputs, like: Tensor) -> Tensor:
    """Outputs as a tensor of the same dtype on the same device."""
    return outputs if isinstance(outputs, Tensor) else from_bits(outputs, like.dtype, str(like.device))
