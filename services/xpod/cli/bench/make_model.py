"""`xpod bench make-model`: the benchmark model, in a directory that `xpod up --model` takes.

Knows: its options, where caches lie, and what a user sees meanwhile.
Does not know: how the files are written (see `checkpoint_writer`).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from xpod.cli.bench.recipe import SMALLEST_VOCAB, Recipe
from xpod.cli.errors import BAD_USAGE, CliError
from xpod.cli.preflight import find_model

if TYPE_CHECKING:
    from xpod.cli.bench.checkpoint_writer import CheckpointWriter

SPARE_BYTES = 64 << 20


def _size(flag: str, variable: str, what: str, smallest: int = 1) -> object:
    return Option(flag, envvar=variable, min=smallest, help=what)


def make_model(  # noqa: PLR0917
    out: Annotated[
        Path | None,
        Option(
            "--out",
            envvar="XPOD_OUT",
            metavar="DIR",
            show_default=False,
            help="Where to write it (default: a directory for each recipe in the user's cache).",
        ),
    ] = None,
    seed: Annotated[int, _size("--seed", "XPOD_SEED", "The same seed gives the same bytes.", 0)] = 0,
    layers: Annotated[int, _size("--layers", "XPOD_LAYERS", "Layers.")] = 16,
    hidden: Annotated[int, _size("--hidden", "XPOD_HIDDEN", "Width of a row.")] = 1024,
    num_experts: Annotated[int, _size("--num-experts", "XPOD_NUM_EXPERTS", "Experts a layer.")] = 32,
    experts_per_token: Annotated[
        int, _size("--experts-per-token", "XPOD_EXPERTS_PER_TOKEN", "Experts that a token uses.")
    ] = 8,
    expert_width: Annotated[
        int, _size("--expert-width", "XPOD_EXPERT_WIDTH", "Inner width of an expert.")
    ] = 512,
    heads: Annotated[int, _size("--heads", "XPOD_HEADS", "Query heads.")] = 16,
    kv_heads: Annotated[int, _size("--kv-heads", "XPOD_KV_HEADS", "Key and value heads.")] = 4,
    head_dim: Annotated[int, _size("--head-dim", "XPOD_HEAD_DIM", "Width of a head.", 2)] = 64,
    vocab: Annotated[
        int, _size("--vocab", "XPOD_VOCAB", "Tokens in the vocabulary.", SMALLEST_VOCAB)
    ] = 32_000,
    max_positions: Annotated[
        int, _size("--max-positions", "XPOD_MAX_POSITIONS", "Longest context in tokens.")
    ] = 32_768,
) -> int:
    """Write a model of random weights to measure with, and print its directory.

    It has the shape of Qwen3-MoE; at the default sizes, 0.91 G parameters of which a token uses 0.28 G, 1.8 GB.
    Nothing is written where it is there already.
    """
    recipe = Recipe(
        seed=seed,
        layers=layers,
        hidden=hidden,
        num_experts=num_experts,
        experts_per_token=experts_per_token,
        expert_width=expert_width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=vocab,
        max_positions=max_positions,
    )
    directory = (out or cache_directory() / recipe.name).expanduser().resolve()
    ensure_model(directory, recipe)
    print(directory, flush=True)
    return 0


def cache_directory() -> Path:
    """XDG's cache of this user, xpod's part of it."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "xpod"


def given_or_made(model: Path | None) -> Path:
    """The model to measure with: the one that a user named, or the default one, made where it is missing."""
    if model is not None:
        return find_model(str(model))
    recipe = Recipe()
    directory = (cache_directory() / recipe.name).resolve()
    ensure_model(directory, recipe)
    return directory


def ensure_model(directory: Path, recipe: Recipe) -> None:
    """The model is in the directory afterwards; written now where it was not."""
    from xpod.cli.bench.checkpoint_writer import CheckpointWriter
    from xpod_model.errors import ModelError

    try:
        _ensure(CheckpointWriter(directory, recipe))
    except ModelError as error:
        raise CliError(str(error), BAD_USAGE) from error
    except OSError as error:
        raise CliError(f"--out: {directory} cannot be written: {error.strerror or error}") from error


def _ensure(writer: CheckpointWriter) -> None:
    if writer.complete:
        return
    _check_room(writer.directory, writer.total_bytes)
    with writer.alone():
        if not writer.complete:  # another process may have written it meanwhile
            _write_watched(writer)


def _check_room(directory: Path, needed: int) -> None:
    there = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed + SPARE_BYTES:
        raise CliError(f"--out: {there} has {free >> 20} MiB free, the model needs {needed >> 20} MiB")


def _write_watched(writer: CheckpointWriter) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("writing the model", total=writer.total_bytes)
        writer.write(lambda count: progress.update(task, advance=count))
