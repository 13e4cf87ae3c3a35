"""What a pod's processes held during a run, and whether it grew: as one object, and as tables.

Knows: samples. Does not know: what the pod went through.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from xpod.cli.chaos.growth import Sample, by_kind, growing, growth, kinds
from xpod.cli.chaos.target import Target
from xpod.cli.figures_table import figures_table

MEGABYTE = 1e6
COLUMNS = 8


def usage_of(samples: list[Sample]) -> dict[str, Any]:
    """Bytes and open files: sums for the start, each minute and the end; how much one process has, and what grows."""
    return {
        "usage": [{"at": sample.at, "kinds": by_kind(sample)} for sample in _shown(samples)],
        "growth": {kind: growth(samples, kind) for kind in kinds(samples)},
        "growing": growing(samples),
    }


def leaks(report: dict[str, Any], target: Target) -> bool:
    """Does it grow for ever? A pod that was there before may have caches that are still filling."""
    return target.own and bool(report["growing"])


def _shown(samples: list[Sample]) -> list[Sample]:
    """The first, the first of each minute, the last."""
    shown = samples[:1]
    for sample in samples[1:-1]:
        if sample.at // 60 > shown[-1].at // 60:
            shown.append(sample)
    return [*shown, *samples[1:][-1:]]


def usage_tables(report: dict[str, Any]) -> Iterator[Table | str]:
    """What `usage_of` found, for a terminal."""
    yield _usage_table("memory, MB", report, "memory", MEGABYTE)
    yield _usage_table("open files", report, "files", 1)
    if report["growing"]:
        yield f"grows: {', '.join(report['growing'])}"


def _usage_table(title: str, report: dict[str, Any], field: str, unit: float) -> Table:
    """A line for each kind: sums at each time (and of how many processes), one process' means and growth."""
    shown = _few(report["usage"])
    times = [f"{each['at']:.0f} s" for each in shown]
    table = figures_table(title, *times, "one, middle", "one, last", "one, a minute", "seen for")
    for kind, grown in report["growth"].items():
        cells = [_sum(each["kinds"].get(kind), field, unit) for each in shown]
        means = ("" if held is None else f"{held / unit:.1f}" for held in grown[field])
        slope = grown[f"{field}_per_minute"]
        a_minute = "" if slope is None else f"{slope / unit:+.2f}"
        table.add_row(kind, *cells, *means, a_minute, f"{grown['seconds']:.0f} s")
    return table


def _sum(sums: dict[str, int] | None, field: str, unit: float) -> str:
    return "" if sums is None else f"{sums[field] / unit:.0f} ({sums['processes']})"


def _few(usage: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many as a terminal has room for, the last among them."""
    step = -(-len(usage) // COLUMNS)
    return usage[::-1][::step][::-1]
