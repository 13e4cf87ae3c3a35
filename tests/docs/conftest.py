"""A stranger's shell, and what makes its long commands short."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.shell import Shell

TINY = (
    "--layers 1 --hidden 64 --num-experts 4 --experts-per-token 2 --expert-width 64 "
    "--heads 2 --kv-heads 1 --head-dim 32 --vocab 512 --max-positions 4096"
)
MODEL = '--model "$("$0" bench make-model)"'
BRIEFLY = {
    "bench make-model": TINY,
    "bench serve": "--requests 4 --warmup 0 --output-tokens 8 --vocab 512",
    "bench compare": f"{MODEL} --rounds 1 --case decode-1",
    "bench hop": f"{MODEL} --rounds 2",
    "bench turns": f"{MODEL} --rounds 1 --conversations 1 --turns 2 --think 0",
    "bench prefix": f"{MODEL} --rounds 1 --prefix-tokens 64",
    "bench tree": "--rounds 1 --blocks 1000",
    "chaos drill": "--kinds router --signals KILL --phases stream --trials 1 --streams 2 --no-restart",
    "chaos calm": "--minutes 0.05 --streams 2",
    "chaos storm": "--minutes 0.05 --streams 2",
}


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Where the pages' commands take minutes or hours, they do little here."""
    made = Shell(tmp_path, BRIEFLY)
    yield made
    made.close()
