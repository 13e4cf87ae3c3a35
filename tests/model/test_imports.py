"""Routers and the CLI read configs, checkpoints and text without waiting for torch."""

import subprocess
import sys

import pytest

from xpod_model.fingerprint import numerics_fingerprint

LIGHT = ["xpod_model", "xpod_model.config", "xpod_model.checkpoint", "xpod_model.errors", "xpod_model.text"]


@pytest.mark.parametrize("module", LIGHT)
def test_torch_stays_out(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules, 'transformers' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


def test_fingerprint_names_the_numerics() -> None:
    names = {dtype: numerics_fingerprint(dtype) for dtype in ("fp32", "bf16")}
    assert names["fp32"] != names["bf16"]
    assert all(len(name) == 64 for name in names.values())
    numerics_fingerprint.cache_clear()
    assert {dtype: numerics_fingerprint(dtype) for dtype in names} == names
