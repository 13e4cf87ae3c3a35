"""`xpod chaos storm`: random faults of all kinds, several at once, under constant load, for so many minutes.

Knows: options, and the order of a storm: record, rage, calm, report. Does not know: whom faults hit, or how.
"""

from __future__ import annotations

import json
import random
import sys
import time
from typing import Annotated

from rich.console import Console
from typer import Option

from xpod.cli.chaos.load import Load
from xpod.cli.chaos.meter import Meter
from xpod.cli.chaos.opening import SMALL_CACHES, Wanted, opened, tell_logs
from xpod.cli.chaos.options import ChaosDataOption, ComposeOption, MinutesOption, SeedOption, StreamsOption
from xpod.cli.chaos.requests import requests
from xpod.cli.chaos.storm_report import Storm, summary, tables
from xpod.cli.chaos.strikes import Strikes, rage
from xpod.cli.chaos.target import Target
from xpod.cli.chaos.trial import Watch
from xpod.cli.chaos.undisturbed import fault_free
from xpod.cli.chaos.usage_report import leaks
from xpod.cli.errors import CliError
from xpod.cli.options import DEFAULT_MODEL, DtypeOption, JsonOption, ModelOption

WRONG = 1
WIDTH = 160


def storm(  # noqa: PLR0917
    minutes: MinutesOption = 10.0,
    streams: StreamsOption = 16,
    every: Annotated[
        float,
        Option("--every", envvar="XPOD_EVERY", min=0.1, help="Seconds from fault to fault, on average."),
    ] = 3.0,
    seed: SeedOption = 0,
    model: ModelOption = DEFAULT_MODEL,
    dtype: DtypeOption = "auto",
    data: ChaosDataOption = None,
    compose: ComposeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Hit members of a pod at random, several at once, and compare every stream with its fault-free run.

    Exit code 1: some stream was wrong, a pod of its own leaks, or the pod did not become whole again.
    """
    with opened(Wanted(data, compose, model, dtype, SMALL_CACHES)) as target:
        report = summary(_storm(target, 60 * minutes, streams, every, seed))
        wrong = bool(report["wrong"] or report["problem"] or leaks(report, target))
        if wrong:
            tell_logs(target)
    if as_json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
        for each in tables(report):
            console.print(each)
    return WRONG if wrong else 0


def _storm(target: Target, seconds: float, streams: int, every: float, seed: int) -> Storm:
    """Faults for so long, and what came of them. Raises CliError where the pod cannot be hit or asked."""
    bodies = requests(streams, seed)
    fault_free(target, bodies)  # the first of its kind loads what later ones find
    expected = fault_free(target, bodies)
    target.wait_whole()
    target.begin()
    clock = Clock()
    meter, load = Meter(target), Load(target.endpoints, bodies, expected, seed, clock.tell)
    strikes = Strikes(target, random.Random(f"{seed}/storm"), every, clock.tell)
    meter.start()
    load.start()
    rage(strikes, seconds)
    calm = Watch(target)
    load.stop()
    whole, problem = _result(calm)
    return Storm(clock.now, strikes.counts, strikes.most_away, load.ended, meter.stop(), whole, problem)


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def now(self) -> float:
        return time.monotonic() - self._began

    def tell(self, text: str) -> None:
        """A line on stderr. Many threads tell: it is written in one piece."""
        sys.stderr.write(f"{self.now:7.2f} s  {text}\n")


def _result(calm: Watch) -> tuple[float | None, str]:
    """Seconds to full redundancy, or why there is none."""
    try:
        return calm.result(), ""
    except CliError as error:
        return None, error.message
