"""The pod that a comparison calls bare."""

from __future__ import annotations

import pytest

from xpod.cli.bench.compare.pod import BARE
from xpod.decode.worker import DecodeConfig
from xpod.router.router import RouterConfig
from xpod_runtime.config import PREFIX, ServiceConfig, load_config

CONFIGS = (DecodeConfig, RouterConfig)


def test_every_variable_is_a_setting() -> None:
    """One that nobody reads would compare a pod with itself."""
    known = {name for config in CONFIGS for name in config.model_fields}
    assert {name.removeprefix(PREFIX).lower() for name in BARE} <= known


@pytest.mark.parametrize("config", CONFIGS)
def test_every_variable_changes_something(config: type[ServiceConfig]) -> None:
    usual, bare = load_config(config, [], {}), load_config(config, [], BARE)
    named = {name for name in config.model_fields if PREFIX + name.upper() in BARE}
    assert {name for name in named if getattr(usual, name) != getattr(bare, name)} == named
    assert named
