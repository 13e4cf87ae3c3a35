"""A storm added up: as one object, and as tables.

Knows: what was counted. Does not know: how.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from xpod.cli.bench.figures import percentile
from xpod.cli.chaos.growth import Sample
from xpod.cli.chaos.load import Ended
from xpod.cli.chaos.target import Signal
from xpod.cli.chaos.usage_report import usage_of, usage_tables


@dataclass(frozen=True, slots=True)
class Storm:
    """`whole`: seconds from the last fault's end until the pod had all its redundancy; None: never, for `problem`."""

    seconds: float
    faults: Counter[tuple[str, Signal]]
    most_away: int
    streams: list[Ended]
    samples: list[Sample]
    whole: float | None
    problem: str

    @property
    def wrong(self) -> int:
        return sum(not ended.right for ended in self.streams)


def summary(storm: Storm) -> dict[str, Any]:
    """Seconds, bytes."""
    good = [ended for ended in storm.streams if not ended.error]
    gaps = sorted(ended.gap for ended in good)
    faults: dict[str, dict[str, int]] = {}
    for (kind, signal), count in sorted(storm.faults.items()):
        faults.setdefault(kind, {"KILL": 0, "STOP": 0})[signal] = count
    return {
        "seconds": storm.seconds,
        "faults": faults,
        "most_away": storm.most_away,
        "streams": len(storm.streams),
        "wrong": storm.wrong,
        "lost": sum(ended.verdict.lost for ended in good),
        "doubled": sum(ended.verdict.doubled for ended in good),
        "changed": sum(ended.verdict.changed for ended in good),
        "other": [ended.verdict.other for ended in good if ended.verdict.other],
        "errors": [ended.error for ended in storm.streams if ended.error],
        "recoveries": sum(ended.recoveries for ended in good),
        "gap_p50": percentile(gaps, 0.5) if gaps else None,
        "gap_p99": percentile(gaps, 0.99) if gaps else None,
        "gap_worst": gaps[-1] if gaps else None,
        "whole": storm.whole,
        "problem": storm.problem,
        **usage_of(storm.samples),
    }


def tables(report: dict[str, Any]) -> Iterator[Table | str]:
    """For a terminal."""
    faults = ", ".join(
        f"{kind} {counts['KILL']} killed {counts['STOP']} stopped"
        for kind, counts in report["faults"].items()
    )
    yield f"{report['seconds']:.0f} s; faults: {faults or 'none'}; {report['most_away']} members away at once at most"
    yield (
        f"{report['streams']} streams, {report['wrong']} wrong (tokens: {report['lost']} lost, "
        f"{report['doubled']} doubled, {report['changed']} changed; {len(report['errors'])} errors), "
        f"{report['recoveries']} recoveries"
    )
    gaps = ", ".join(f"{name} {_seconds(report[f'gap_{name}'])}" for name in ("p50", "p99", "worst"))
    yield f"longest gap of a stream: {gaps}"
    yield f"whole after {_seconds(report['whole'])}" if report["whole"] is not None else report["problem"]
    yield from usage_tables(report)


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} s"
