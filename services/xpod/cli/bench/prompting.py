"""What measurements of a pod under different ways of reuse are told: which pod, and which token ids.

Knows: what excludes what.
Does not know: what is measured.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xpod.cli.bench.make_model import given_or_made
from xpod.cli.bench.pods import GivenPod, OwnPods, Pods
from xpod.cli.bench.serve import SEED_BITS
from xpod.cli.bench.target import checked_urls
from xpod.cli.errors import BAD_USAGE, CliError
from xpod.cli.options import split_urls

SMALL_VOCAB = 4096
"""Of a model elsewhere: few have less."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Token ids of prompts are below `vocab`."""

    pods: Pods
    seed: int
    vocab: int


def asked_of(
    url: str,
    model: Path | None,
    counts: Mapping[str, int | None],
    defaults: Mapping[str, int],
    seed: int | None,
) -> Asked:
    """The pod at `url`, else pods of our own with these counts; those that are neither given nor have a default
    are compose.yaml's."""
    drawn = secrets.randbits(SEED_BITS) if seed is None else seed
    if url:
        if any(counts.values()):
            raise CliError("--url: a pod that runs already has its counts", BAD_USAGE)
        return Asked(
            GivenPod(checked_urls(split_urls(url))), drawn, SMALL_VOCAB if model is None else vocab_of(model)
        )
    directory = given_or_made(model)
    wanted = {kind: defaults.get(kind) if count is None else count for kind, count in counts.items()}
    return Asked(OwnPods(directory, wanted), drawn, vocab_of(directory))


def vocab_of(model: Path) -> int:
    """Raises CliError where there is no model."""
    try:
        return int(json.loads((model / "config.json").read_text())["vocab_size"])
    except (OSError, ValueError, KeyError) as error:
        raise CliError(f"--model: {model} has no config.json that names a vocab_size") from error
