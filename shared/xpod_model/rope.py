"""Rotary position embedding (arXiv 2104.09864), with linear, llama3 and yarn (arXiv 2309.00071) scaling.

It knows positions and head widths, not weights.
"""

import math

import torch
from torch import Tensor

from xpod_model.families.base import RopeConfig

# the table grows by whole steps, so that a position's entry does not depend on how far the table reaches
STEP = 4096


class Rope:
    """Cosines and signed sines by position, computed in fp32 and kept in the dtype of the model."""

    def __init__(self, config: RopeConfig, head_dim: int, dtype: torch.dtype, device: str = "cpu") -> None:
        self._frequencies = inverse_frequencies(config, head_dim)
        self._scale = config.attention_factor
        self._dtype, self._device = dtype, device
        self._table = torch.empty(0, 2 * head_dim, dtype=dtype, device=device)

    def at(self, positions: Tensor, highest: int) -> tuple[Tensor, Tensor]:
        """positions [T], all <= highest -> cos [T, 1, head_dim], signed sin [T, 1, head_dim] for `rotate`."""
        cos, sin = self.table(highest).index_select(0, positions).unsqueeze(1).chunk(2, dim=-1)
        return cos, sin

    def table(self, highest: int) -> Tensor:
        """[more than `highest`, 2 * head_dim]: a position's cosines, then its signed sines."""
        if highest >= self._table.shape[0]:
            self._grow(highest)
        return self._table

    def _grow(self, highest: int) -> None:
        steps = [self._table]
        for begin in range(self._table.shape[0], highest + 1, STEP):
            angles = (
                torch.arange(begin, begin + STEP).float()[:, None] * self._frequencies
            )  # [STEP, head_dim / 2]
            cos, sin = angles.cos() * self._scale, angles.sin() * self._scale
            # the minus of rotate_half sits in the table: one operation less in each layer
            step = torch.cat([cos, cos, -sin, sin], dim=-1)
            steps.append(step.to(device=self._device, dtype=self._dtype))
        self._table = torch.cat(steps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [T, heads, head_dim], rotated; halves are paired (i, i + head_dim / 2), as Hugging Face stores them."""
    swapped = x.roll(x.shape[-1] // 2, -1)
    return (x * cos).add_(swapped.mul_(sin))


def inverse_frequencies(config: RopeConfig, head_dim: int) -> Tensor:
    """Radians per position of each pair, fp32 [head_dim / 2]."""
    exponents = torch.arange(0, head_dim, 2).float() / head_dim
    plain: Tensor = 1.0 / (config.theta**exponents)
    if config.kind == "linear":
        return plain / config.factor
    if config.kind == "llama3":
        return _llama3(config, plain)
    if config.kind == "yarn":
        return _yarn(config, plain, head_dim)
    return plain


def _llama3(config: RopeConfig, plain: Tensor) -> Tensor:
    """Llama 3.1: long waves are stretched, short ones kept, those between interpolated."""
    waves = 2 * math.pi / plain
    longest = config.original_max_positions / config.low_freq_factor
    shortest = config.original_max_positions / config.high_freq_factor
    smooth = (config.original_max_positions / waves - config.low_freq_factor) / (
        config.high_freq_factor - config.low_freq_factor
    )
    between = (1 - smooth) * plain / config.factor + smooth * plain
    stretched = torch.where(waves > longest, plain / config.factor, plain)
    return torch.where((waves >= shortest) & (waves <= longest), between, stretched)


def _yarn(config: RopeConfig, plain: Tensor, head_dim: int) -> Tensor:
    """YaRN section 3.2, "NTK-by-parts": a ramp over the pairs, from kept to stretched."""

    def pair_of(rotations: float) -> float:
        turns = config.original_max_positions / (rotations * 2 * math.pi)
        return head_dim * math.log(turns) / (2 * math.log(config.theta))

    low, high = pair_of(config.beta_fast), pair_of(config.beta_slow)
    if config.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    span = high - low or 0.001
    stretched = ((torch.arange(head_dim // 2).float() - low) / span).clamp(0, 1)
    return plain / config.factor * stretched + plain * (1 - stretched)
