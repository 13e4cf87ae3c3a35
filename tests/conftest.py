"""For all tests."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def _what_is_there_stays() -> None:
    """Workers collect garbage when they are idle: they need not go through what the modules before have left."""
    gc.collect()
    gc.freeze()
