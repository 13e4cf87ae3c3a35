"""`xpod bench hop`: one layer's way to the expert shards and back, by number of rows.

Knows: its options, and which exit code a measurement deserves.
Does not know: how it is measured (see `run`), or how figures look (see `table`).
"""

from __future__ import annotations

import secrets
import sys
from typing import TYPE_CHECKING, Annotated

from typer import Option

from xpod.cli.bench.hop.table import as_text
from xpod.cli.bench.make_model import given_or_made
from xpod.cli.bench.options import BenchModelOption, ResultsOption
from xpod.cli.bench.result_file import ResultFile
from xpod.cli.bench.serve import SEED_BITS
from xpod.cli.bench.showing import show
from xpod.cli.errors import BAD_USAGE, DONE, INTERRUPTED, REFUSED, CliError
from xpod.cli.options import JsonOption
from xpod.cli.terminal import interruptible

if TYPE_CHECKING:
    from xpod.cli.bench.hop.run import HopRun

REPORT_VERSION = 1
KIND = "hop"
MOST_ROWS = 4096


def hop(  # noqa: PLR0917
    rows: Annotated[
        str, Option("--rows", envvar="XPOD_ROWS", metavar="N,…", help="Rows of a layer, one figure each.")
    ] = "1,8,32,256",
    rounds: Annotated[
        int,
        Option("--rounds", envvar="XPOD_ROUNDS", min=1, help="Exchanges of each (above 64 rows a quarter)."),
    ] = 200,
    experts: Annotated[int, Option("--experts", envvar="XPOD_EXPERTS", min=1, help="Expert shards.")] = 2,
    model: BenchModelOption = None,
    seed: Annotated[
        int | None,
        Option(
            "--seed",
            envvar="XPOD_SEED",
            min=0,
            show_default=False,
            help="Of rows and their experts (default: another one each time).",
        ),
    ] = None,
    results: ResultsOption = None,
    as_json: JsonOption = False,
) -> int:
    """Measure one MoE layer's way to the expert shards and back, and what its parts take.

    A pod is started for it; what asks its shards is in the place of a decode worker.
    """
    counts = _counts(rows)
    directory = given_or_made(model)
    from xpod.cli.bench.hop.rounds import Plan
    from xpod.cli.bench.hop.run import HopRun

    plan = Plan(counts, rounds, secrets.randbits(SEED_BITS) if seed is None else seed)
    file, run = ResultFile(KIND, REPORT_VERSION), HopRun(directory, experts, plan)
    interrupted, broken = _measured(run)
    report = file.report(run.parts(), interrupted)
    if run.found.exchanges:
        show(report, as_json, as_text)
    if broken is not None:
        raise broken
    if interrupted:
        return INTERRUPTED
    if not run.found.exchanges:
        raise CliError("in every exchange a call had to be made again", REFUSED)
    if results is not None:
        print(file.write(results, report), file=sys.stderr)
    return DONE


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        counts = ()
    if not counts or not all(1 <= count <= MOST_ROWS for count in counts):
        raise CliError(f"--rows: {text!r} is not numbers from 1 to {MOST_ROWS}, with commas", BAD_USAGE)
    return counts


def _measured(run: HopRun) -> tuple[bool, CliError | None]:
    """Whether it was interrupted, and what broke it."""
    try:
        with interruptible():
            run.measure()
    except KeyboardInterrupt:
        return True, None
    except CliError as error:
        return False, error
    return False, None
