"""`xpod chaos calm`: full load without faults. Nobody may be taken for dead, and hardly a call be hedged.

Knows: which counters of members tell of false alarms. Does not know: how members judge.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from xpod.cli.bench.figures import percentile
from xpod.cli.chaos.growth import Sample
from xpod.cli.chaos.load import Ended, Load
from xpod.cli.chaos.meter import Meter
from xpod.cli.chaos.opening import SMALL_CACHES, Wanted, opened, tell_logs
from xpod.cli.chaos.options import ChaosDataOption, ComposeOption, MinutesOption, SeedOption, StreamsOption
from xpod.cli.chaos.requests import requests
from xpod.cli.chaos.target import Target
from xpod.cli.chaos.trial import grown
from xpod.cli.chaos.undisturbed import fault_free
from xpod.cli.chaos.usage_report import leaks, usage_of, usage_tables
from xpod.cli.compose import KINDS
from xpod.cli.options import DEFAULT_MODEL, DtypeOption, JsonOption, ModelOption

ALARM = 1
WIDTH = 160
MOST_HEDGED = 0.01
VERDICTS, JUDGES = ("suspected", "declared_down"), tuple(kind for kind in KINDS if kind != "nats")
CALLS, CALLERS = ("calls", "hedges"), ("prefill", "decode")
TELL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Calm:
    """What came of so many seconds: streams, and what members counted."""

    seconds: float
    streams: list[Ended]
    suspected: int
    declared_down: int
    calls: int
    hedges: int
    samples: list[Sample]

    def report(self) -> dict[str, Any]:
        good = sorted(ended.gap for ended in self.streams if not ended.error)
        return {
            "seconds": self.seconds,
            "streams": len(self.streams),
            "wrong": sum(not ended.right for ended in self.streams),
            "recoveries": sum(ended.recoveries for ended in self.streams),
            "suspected": self.suspected,
            "declared_down": self.declared_down,
            "calls": self.calls,
            "hedges": self.hedges,
            "hedged_share": self.hedges / self.calls if self.calls else 0.0,
            "gap_p50": percentile(good, 0.5) if good else None,
            "gap_p99": percentile(good, 0.99) if good else None,
            **usage_of(self.samples),
        }


def calm(  # noqa: PLR0917
    minutes: MinutesOption = 5.0,
    streams: StreamsOption = 16,
    seed: SeedOption = 0,
    model: ModelOption = DEFAULT_MODEL,
    dtype: DtypeOption = "auto",
    data: ChaosDataOption = None,
    compose: ComposeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Load a pod without faults, and count false alarms.

    Exit code 1: a stream was wrong, a member was declared dead, over 1 % of expert calls were hedged, or a pod of its
    own leaks.
    """
    with opened(Wanted(data, compose, model, dtype, SMALL_CACHES)) as target:
        report = _calm(target, 60 * minutes, streams, seed).report()
        alarm = report["wrong"] or report["declared_down"] or report["hedged_share"] > MOST_HEDGED
        alarm = alarm or leaks(report, target)
        if alarm:
            tell_logs(target)
    if as_json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        _print(report)
    return ALARM if alarm else 0


def _calm(target: Target, seconds: float, streams: int, seed: int) -> Calm:
    bodies = requests(streams, seed)
    fault_free(target, bodies)  # the first of its kind loads what later ones find
    load = Load(target.endpoints, bodies, fault_free(target, bodies), seed)
    verdicts, calls = target.counted(*VERDICTS, kinds=JUDGES), target.counted(*CALLS, kinds=CALLERS)
    meter = Meter(target)
    began = time.monotonic()
    meter.start()
    load.start()
    while (gone := time.monotonic() - began) < seconds:
        time.sleep(min(TELL_SECONDS, seconds - gone))
        print(f"{time.monotonic() - began:.0f} s  {len(load.ended)} streams", file=sys.stderr, flush=True)
    load.stop()
    suspected, down = grown(verdicts, target.counted(*VERDICTS, kinds=JUDGES), len(VERDICTS))
    asked, hedged = grown(calls, target.counted(*CALLS, kinds=CALLERS), len(CALLS))
    return Calm(time.monotonic() - began, load.ended, suspected, down, asked, hedged, meter.stop())


def _print(report: dict[str, Any]) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    for name, value in report.items():
        if not isinstance(value, dict | list):
            console.print(f"{name:<14} {_shown(value)}")
    for table in usage_tables(report):
        console.print(table)


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
