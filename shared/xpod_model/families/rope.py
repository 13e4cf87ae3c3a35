"""Rotary settings as transformers 4 (rope_theta, rope_scaling) and 5 (rope_parameters) write them.

It knows config keys, not frequencies: those are computed in `xpod_model.rope`.
"""

import math
from typing import Any

from xpod_model.errors import UnsupportedModel
from xpod_model.families.base import Json, RopeConfig, need, need_int

SUPPORTED = ("default", "linear", "llama3", "yarn")


def parse_rope(config: Json, max_positions: int) -> RopeConfig:
    """RopeConfig from either spelling; raises UnsupportedModel for a kind that depends on the running length."""
    scaling: dict[str, Any] = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    theta = float(scaling.get("rope_theta") or config.get("rope_theta") or 10_000.0)
    kind = str(scaling.get("rope_type") or scaling.get("type") or "default")
    if kind not in SUPPORTED:
        raise UnsupportedModel(f"rope scaling {kind!r} is not supported; supported: {', '.join(SUPPORTED)}")
    partial = scaling.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    if partial != 1.0:
        raise UnsupportedModel(f"partial_rotary_factor {partial} is not supported; only 1.0 is")
    if kind == "default":
        return RopeConfig(theta)
    if kind == "linear":
        return RopeConfig(theta, kind, factor=float(need(scaling, "factor")))
    original = scaling.get("original_max_position_embeddings") or max_positions
    return (_llama3 if kind == "llama3" else _yarn)(theta, {**scaling, "original": original}, max_positions)


def _llama3(theta: float, scaling: Json, max_positions: int) -> RopeConfig:
    return RopeConfig(
        theta,
        "llama3",
        factor=float(need(scaling, "factor")),
        original_max_positions=need_int(scaling, "original"),
        low_freq_factor=float(need(scaling, "low_freq_factor")),
        high_freq_factor=float(need(scaling, "high_freq_factor")),
    )


def _yarn(theta: float, scaling: Json, max_positions: int) -> RopeConfig:
    original = need_int(scaling, "original")
    factor = float(scaling.get("factor") or max_positions / original)
    return RopeConfig(
        theta,
        "yarn",
        factor=factor,
        original_max_positions=original,
        beta_fast=float(scaling.get("beta_fast") or 32.0),
        beta_slow=float(scaling.get("beta_slow") or 1.0),
        truncate=bool(scaling.get("truncate", True)),
        attention_factor=_yarn_attention(scaling, factor),
    )


def _yarn_attention(scaling: Json, factor: float) -> float:
    """The factor on cos and sin: YaRN (arXiv 2309.00071) section 3.4, with DeepSeek's two mscales."""

    def mscale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    given = scaling.get("attention_factor")
    if given is not None:
        return float(given)
    above, below = scaling.get("mscale"), scaling.get("mscale_all_dim")
    if above and below:
        return mscale(float(above)) / mscale(float(below))
    return mscale(1.0)
