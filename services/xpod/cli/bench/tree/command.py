"""`xpod bench tree`: the router's prompt tree by itself.

Knows: its options, and how its figures look.
Does not know: how it is measured (see `run`).
"""

from __future__ import annotations

import secrets
import sys
from typing import Annotated, Any

from rich.console import Group, RenderableType
from rich.text import Text
from typer import Option

from xpod.cli.bench.options import ResultsOption
from xpod.cli.bench.result_file import ResultFile
from xpod.cli.bench.serve import SEED_BITS
from xpod.cli.bench.showing import show
from xpod.cli.errors import DONE
from xpod.cli.figures_table import figures_table
from xpod.cli.options import JsonOption

REPORT_VERSION = 1
KIND = "tree"


def tree(  # noqa: PLR0917
    blocks: Annotated[
        int, Option("--blocks", envvar="XPOD_BLOCKS", min=1, help="Blocks in the index, of 16 tokens.")
    ] = 100_000,
    tokens: Annotated[
        int, Option("--tokens", envvar="XPOD_TOKENS", min=1, help="Tokens of each prompt.")
    ] = 4096,
    rounds: Annotated[
        int, Option("--rounds", envvar="XPOD_ROUNDS", min=1, help="Prompts matched of each case.")
    ] = 500,
    seed: Annotated[
        int | None,
        Option(
            "--seed",
            envvar="XPOD_SEED",
            min=0,
            show_default=False,
            help="Of all token ids (default: another one each time).",
        ),
    ] = None,
    results: ResultsOption = None,
    as_json: JsonOption = False,
) -> int:
    """Measure how long a router takes to find who has how much of a prompt, and the memory of a block."""
    from xpod.cli.bench.tree.run import Plan, TreeRun  # with it comes numpy

    file = ResultFile(KIND, REPORT_VERSION)
    run = TreeRun(Plan(blocks, tokens, rounds, secrets.randbits(SEED_BITS) if seed is None else seed))
    run.measure()
    report = file.report(run.parts(), interrupted=False)
    show(report, as_json, as_text)
    if results is not None:
        print(file.write(results, report), file=sys.stderr)
    return DONE


def as_text(report: dict[str, Any]) -> RenderableType:
    """Milliseconds by case, and the index in words."""
    parameters, index = report["parameters"], report["index"]
    table = figures_table(f"{parameters['tokens']} tokens, ms", "median", "p99", "max")
    for case, found in report["match_ms"].items():
        table.add_row(case, *(f"{found[name]:.3f}" for name in ("p50", "p99", "max")))
    words = (
        f"{index['blocks']} blocks at {index['holders']} holders, {index['bytes_per_block']:.0f} bytes each "
        f"(resident: {index['rss_bytes_per_block']:.0f}), built in {index['build_s']:.2f} s"
    )
    return Group(table, Text(words))
