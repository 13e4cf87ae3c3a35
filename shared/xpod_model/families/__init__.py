"""The registry of model families: which model_type is read by which module."""

from xpod_model.errors import UnsupportedModel
from xpod_model.families.base import Family
from xpod_model.families.qwen3_moe import Qwen3Moe

FAMILIES: tuple[Family, ...] = (Qwen3Moe(),)
SUPPORTED = tuple(name for family in FAMILIES for name in family.model_types)


def family_of(model_type: str) -> Family:
    """The family that reads `model_type`; raises UnsupportedModel, naming those that are."""
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    raise UnsupportedModel(f"model_type {model_type!r} is not supported; supported: {', '.join(SUPPORTED)}")
