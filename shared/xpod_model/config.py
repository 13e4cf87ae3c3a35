"""config.json and generation_config.json become a ModelConfig. It knows files and JSON, not tensors, not torch."""

import json
from pathlib import Path
from typing import Any

from xpod_model.errors import ConfigError
from xpod_model.families import SUPPORTED, family_of
from xpod_model.families.base import ModelConfig, RopeConfig

__all__ = ["SUPPORTED", "ModelConfig", "RopeConfig", "load_config", "read_json", "sampling_defaults"]


def load_config(directory: Path) -> ModelConfig:
    """The config of a Hugging Face model directory; raises ConfigError or UnsupportedModel, in one line."""
    directory = Path(directory)
    if not directory.is_dir():
        raise ConfigError(f"model directory {directory} does not exist")
    if not (directory / "config.json").is_file():
        raise ConfigError(f"{directory} has no config.json")
    config = read_json(directory / "config.json")
    if "model_type" not in config:
        raise ConfigError(f"{directory / 'config.json'} has no model_type")
    generation = directory / "generation_config.json"
    family = family_of(str(config["model_type"]))
    try:
        return family.parse(config, read_json(generation) if generation.is_file() else {})
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ConfigError(f"{directory / 'config.json'}: {error}") from error


MOST_BYTES = 64 << 20
"""Of a file of JSON; the largest are the indexes of models with many tensors, some 10 MB."""
SAMPLING_DEFAULTS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


def sampling_defaults(directory: Path) -> dict[str, float]:
    """What generation_config.json recommends for requests that do not say; raises ConfigError."""
    path = Path(directory) / "generation_config.json"
    found = read_json(path) if path.is_file() else {}
    defaults = {name: found[name] for name in SAMPLING_DEFAULTS if found.get(name) is not None}
    for name, value in defaults.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{path}: {name} is {value!r}, which is not a number")
    return defaults


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; raises ConfigError if it is unreadable, not JSON, or not an object."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path} is larger than {MOST_BYTES >> 20} MiB")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} is not a JSON object")
    return value
