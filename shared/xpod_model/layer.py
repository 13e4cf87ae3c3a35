"""The weights of one layer, packed: attention, norms, and a gate or a dense MLP. It knows names, not order of use."""

from dataclasses import dataclass

import torch
from torch import Tensor

from xpod_model.checkpoint import Checkpoint
from xpod_model.families.base import LayerNames
from xpod_model.gate import gate_linear
from xpod_model.linear import Linear
from xpod_model.mlp import GatedMlp
from xpod_model.tensors import read, read_stacked


@dataclass(frozen=True, slots=True)
class Layer:
    """Exactly one of gate and dense is there. head_norm holds a weight per query and key head, or is None."""

    input_norm: Tensor  # [D]
    qkv: Linear  # [T, D] -> [T, (heads + 2 * KV heads) * head_dim]
    head_norm: Tensor | None  # [heads + KV heads, head_dim]
    out: Linear  # [T, heads * head_dim] -> [T, D]
    mlp_norm: Tensor  # [D]
    gate: Linear | None  # [T, D] -> [T, E or more]
    dense: GatedMlp | None

    @classmethod
    def read(cls, checkpoint: Checkpoint, layer: int, dtype: torch.dtype, device: str) -> "Layer":
        config = checkpoint.config
        names = checkpoint.family.layer(config, layer)
        qkv = read_stacked(checkpoint, (names.q, names.k, names.v), dtype, device)
        assert qkv is not None
        bias = read_stacked(checkpoint, (names.q_bias, names.k_bias, names.v_bias), dtype, device)
        out_bias = read_stacked(checkpoint, (names.o_bias,), dtype, device)
        gate = None
        if names.router is not None:
            gate = gate_linear(read(checkpoint, names.router, dtype, device))
        return cls(
            input_norm=read(checkpoint, names.input_norm, dtype, device),
            qkv=Linear(qkv, bias),
            head_norm=_head_norm(checkpoint, names, dtype, device),
            out=Linear(read(checkpoint, names.o, dtype, device), out_bias),
            mlp_norm=read(checkpoint, names.mlp_norm, dtype, device),
            gate=gate,
            dense=None if names.dense is None else GatedMlp.read(checkpoint, names.dense, dtype, device),
        )

    def dense_mlp(self, x: Tensor) -> Tensor:
        assert self.dense is not None
        return self.dense(x)


def _head_norm(checkpoint: Checkpoint, names: LayerNames, dtype: torch.dtype, device: str) -> Tensor | None:
    if names.q_norm is None or names.k_norm is None:
        return None
    config = checkpoint.config
    q, k = (read(checkpoint, name, dtype, device) for name in (names.q_norm, names.k_norm))
    return torch.cat([q.expand(config.heads, -1), k.expand(config.kv_heads, -1)])
