"""Buffers that are used again and again. It knows names and sizes, not what is computed in them.

A large fresh tensor costs a page fault every 4 KiB, which for attention scores is more than the arithmetic.
"""

import math

import torch
from torch import Tensor


class Scratch:
    """One buffer a name, which grows and never shrinks. Whoever takes it holds it until the name is taken again."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def take(
        self, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: str | torch.device
    ) -> Tensor:
        """An uninitialised contiguous tensor."""
        size = math.prod(shape)
        held = self._buffers.get(name)
        if held is None or held.numel() < size or held.dtype != dtype:
            held = self._buffers[name] = torch.empty(size, dtype=dtype, device=device)
        return held[:size].view(shape)
