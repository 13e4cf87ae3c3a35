"""Legs as programs: all that a layer of a decoding batch does between two hops, in one call of native code.

The same kernels as operation by operation, hence the same bits. The arguments of all layers stand in one table, of
which most never change; a forward writes its own addresses and number of rows into a copy.
"""

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from xpod_model.bits import to_bits
from xpod_model.config import ModelConfig
from xpod_model.kernels.attend import scratch_bytes
from xpod_model.kernels.library import Product, bits
from xpod_model.kernels.product import PANEL
from xpod_model.kernels.sequence import ADDRESS, ARGUMENTS, STEP
from xpod_model.kernels.sequence import SHARED as MAY_BE_SHARED
from xpod_model.kernels.team import kernel_threads
from xpod_model.kv import KVCache
from xpod_model.layer import Layer
from xpod_model.legs import ExpertBatch, Legs, Outputs, as_tensor
from xpod_model.linear import Linear
from xpod_model.operations import Operations
from xpod_model.own_operations import OwnOperations, Pages
from xpod_model.plan import Ints, Plan, Segment

NAMES = ("combine", "add_norm", "product", "heads", "attend", "product", "add_norm", "product", "choose")
COMBINE, NORM, QKV, HEADS, ATTEND, OUT, MLP_NORM, GATE, CHOOSE = range(len(NAMES))
# what several threads can share even for one row, and from how many rows on the rest is worth sharing
SHARED = (QKV, ATTEND, OUT, GATE)
MANY_ROWS = 8
# (step, argument) -> the name of what a forward writes there
DYNAMIC: dict[tuple[int, int], str] = {
    (COMBINE, 1): "weights", (COMBINE, 2): "rows", (COMBINE, 5): "delta",
    (NORM, 0): "x", (NORM, 1): "delta", (NORM, 2): "rows", (NORM, 6): "h",
    (QKV, 0): "h", (QKV, 1): "rows", (QKV, 6): "qkv",
    (HEADS, 0): "qkv", (HEADS, 1): "rows", (HEADS, 7): "angles", (HEADS, 8): "positions", (HEADS, 9): "slots",
    (HEADS, 10): "queries", (HEADS, 12): "plane",
    (ATTEND, 0): "count", (ATTEND, 1): "pieces", (ATTEND, 5): "queries", (ATTEND, 6): "attended",
    (ATTEND, 8): "plane", (ATTEND, 10): "scratch", (ATTEND, 11): "scratch_bytes",
    (OUT, 0): "attended", (OUT, 1): "rows", (OUT, 6): "delta",
    (MLP_NORM, 0): "x", (MLP_NORM, 1): "delta", (MLP_NORM, 2): "rows", (MLP_NORM, 6): "h",
    (GATE, 0): "h", (GATE, 1): "rows", (GATE, 6): "logits",
    (CHOOSE, 0): "logits", (CHOOSE, 2): "rows", (CHOOSE, 6): "chosen", (CHOOSE, 7): "weights",
}  # fmt: skip
STEPS = np.array([step for step, _ in DYNAMIC])
COLUMNS = np.array([ARGUMENTS + place for _, place in DYNAMIC])


class Programs:
    """What the programs of all forwards have in common: layers, and a table of arguments [layers, steps, STEP]."""

    def __init__(self, config: ModelConfig, layers: Sequence[Layer], do: OwnOperations) -> None:
        self.config, self.do = config, do
        self._layers = layers  # the table points into them
        self.table = np.stack([self._static(layer) for layer in layers])
        self.qkv_width, self.gate_width = (_product(linear).n for linear in (layers[0].qkv, layers[0].gate))

    @classmethod
    def where_possible(cls, config: ModelConfig, layers: Sequence[Layer], do: Operations) -> Self | None:
        """None unless every layer asks experts and all of its products are our own."""
        linears = [linear for layer in layers for linear in (layer.qkv, layer.out, layer.gate)]
        ours = all(linear is not None and linear.product is not None for linear in linears)
        return cls(config, layers, do) if linears and ours and isinstance(do, OwnOperations) else None

    def _static(self, layer: Layer) -> Ints:
        """A layer's steps without what a forward adds."""
        config, own = self.config, self.do.kernels
        width, eps = config.head_dim, bits(config.rms_eps)
        qkv, out, gate = (_product(linear) for linear in (layer.qkv, layer.out, layer.gate))
        norm = 0 if layer.head_norm is None else layer.head_norm.data_ptr()
        arguments: dict[int, dict[int, int]] = {
            COMBINE: {3: config.experts_per_token, 4: config.hidden},
            NORM: {3: config.hidden, 4: layer.input_norm.data_ptr(), 5: eps},
            HEADS: {2: config.heads, 3: config.kv_heads, 4: width, 5: norm, 6: eps},
            ATTEND: {2: config.kv_heads, 3: config.heads // config.kv_heads, 4: width, 9: bits(1 / math.sqrt(width))},
            MLP_NORM: {3: config.hidden, 4: layer.mlp_norm.data_ptr(), 5: eps},
            CHOOSE: {
                1: gate.n, 3: config.experts, 4: config.experts_per_token, 5: int(config.norm_topk_prob),
            },
        }  # fmt: skip
        for step, product in ((QKV, qkv), (OUT, out), (GATE, gate)):
            arguments[step] = {
                2: product.k, 3: product.block, 4: product.address, 5: product.n // PANEL, 7: 2 * product.n,
            }  # fmt: skip
        steps = np.zeros((len(NAMES), STEP), np.int64)
        for step, name in enumerate(NAMES):
            steps[step, ADDRESS] = own.address(name)
            for place, value in arguments[step].items():
                steps[step, ARGUMENTS + place] = value
        return steps


class ProgramLegs(Legs):
    """One forward of at most FEW_ROWS rows x [T, D], which are used up."""

    def __init__(
        self, programs: Programs, segments: Sequence[Segment], plan: Plan, cache: KVCache, x: Tensor
    ) -> None:
        config, rows = programs.config, x.shape[0]
        self._programs, self._x = programs, x
        heads, longest = config.heads * config.head_dim, plan.highest + 1
        self._pages = Pages.of(segments, plan.offsets)
        self._threads = kernel_threads()
        size = scratch_bytes(longest, config.head_dim)
        self._plan, self._angles = plan, programs.do.angles(plan.highest)
        self._h, self._delta, qkv, queries, attended, logits = self._buffers = [
            torch.empty(rows, width, dtype=torch.bfloat16)
            for width in (config.hidden, config.hidden, programs.qkv_width, heads, heads, programs.gate_width)
        ]
        self._weights = torch.empty(rows, config.experts_per_token, dtype=torch.bfloat16)
        self._chosen = torch.empty(rows, config.experts_per_token, dtype=torch.int64)
        self._scratch = torch.empty(self._threads, size, dtype=torch.uint8)
        tensors = {
            "x": x, "h": self._h, "delta": self._delta, "qkv": qkv, "queries": queries, "attended": attended,
            "logits": logits, "weights": self._weights, "chosen": self._chosen, "scratch": self._scratch,
            "angles": self._angles, "positions": plan.positions, "slots": plan.slots,
        }  # fmt: skip
        values = {name: tensor.data_ptr() for name, tensor in tensors.items()} | {
            "rows": rows, "plane": 2 * cache.layers[0].stride(0), "scratch_bytes": size,
            "count": len(self._pages.pieces), "pieces": self._pages.pieces.ctypes.data,
        }  # fmt: skip
        self._table = programs.table.copy()
        self._table[:, STEPS, COLUMNS] = [values[name] for name in DYNAMIC.values()]
        self._table[:, HEADS, ARGUMENTS + 11] = self._table[:, ATTEND, ARGUMENTS + 7] = cache.addresses
        self._table[0, NORM, ARGUMENTS + 1] = 0  # nothing to add yet
        shared = list(SHARED if rows < MANY_ROWS else range(len(NAMES)))
        self._table[:, shared, MAY_BE_SHARED] = 1
        self._begin = self._table.ctypes.data
        self._bits = to_bits(self._h), to_bits(self._chosen)  # the same memory in every layer

    def run(self, layer: int, outputs: Outputs | None) -> ExpertBatch:
        first = NORM
        if outputs is not None:
            first = COMBINE
            at = outputs.data_ptr() if isinstance(outputs, Tensor) else outputs.ctypes.data
            self._table[layer, COMBINE, ARGUMENTS] = at
        begin = self._begin + 8 * STEP * (layer * len(NAMES) + first)
        self._programs.do.kernels.run(begin, len(NAMES) - first, self._threads)
        return ExpertBatch(layer, self._h, self._chosen, self._bits)

    def end(self, outputs: Outputs | None) -> tuple[Tensor, Tensor | None]:
        assert outputs is not None
        return self._x, self._programs.do.combine(as_tensor(outputs, self._x), self._weights)


def _product(linear: Linear | None) -> Product:
    assert linear is not None
    assert linear.product is not None
    return linear.product
