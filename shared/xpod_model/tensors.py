"""Checkpoint tensors as torch tensors, in the dtype of the run. It knows no model structure."""

import torch
from torch import Tensor

from xpod_model.checkpoint import Checkpoint
from xpod_model.errors import ModelError

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def resolve_dtype(checkpoint: Checkpoint, dtype: str) -> torch.dtype:
    """'auto' (as the checkpoint says), 'bf16' or 'fp32', as a torch dtype."""
    name = checkpoint.config.dtype if dtype == "auto" else dtype
    if name not in DTYPES:
        raise ModelError(f"dtype {name!r} is not supported; supported: auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def read(checkpoint: Checkpoint, name: str, dtype: torch.dtype, device: str = "cpu") -> Tensor:
    """One tensor. Where dtype and device already fit, it is a view of the mapped file: do not write to it."""
    label, _, data = checkpoint.raw(name)
    tensor = torch.from_numpy(data)
    if label == "bf16":
        tensor = tensor.view(torch.bfloat16)
    return tensor.to(device=device, dtype=dtype)


def read_stacked(
    checkpoint: Checkpoint, names: tuple[str | None, ...], dtype: torch.dtype, device: str = "cpu"
) -> Tensor | None:
    """Several tensors one above the other, or None if the first name is None."""
    if names[0] is None:
        return None
    return torch.cat([read(checkpoint, name, dtype, device) for name in names if name is not None])


def copy_rows(target: Tensor, places: Tensor, rows: Tensor) -> None:
    """rows [planes, T, width] go to `places` [T] of target [planes, n, width], both with whole rows in memory."""
    wide = torch.complex128
    if rows.shape[-1] * rows.element_size() % wide.itemsize == 0:
        # index_copy_ walks element by element: let elements be as wide as there are
        target, rows = target.view(wide), rows.view(wide)
    target.index_copy_(1, places, rows)
