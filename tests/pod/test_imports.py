"""A router, MemPool node, supervisor and the command line never load torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

PARTS = {
    "router": "xpod.router.router",
    "mempool": "xpod.mempool.node",
    "supervisor": "xpod.supervisor.supervisor",
    "cli": "xpod.cli.main",
    "proto": "xpod_proto",
}


@pytest.mark.parametrize("module", PARTS.values(), ids=PARTS)
def test_starts_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
