"""What many rounds say together.

Knows: medians and spreads over rounds; ratios are taken within a round, where the machine was the same for both.
Does not know: how it was measured. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from xpod.cli.bench.compare.cases import TAX_CASE, Case
from xpod.cli.bench.compare.taken import figure_names

Json = dict[str, Any]
POD, REFERENCE = "pod", "reference"
Value = float | None


def summary(runs: Sequence[Json], memory: Sequence[Json], cases: Iterable[Case]) -> Json:
    """By figure: each contender's spread, and the pod's ratio to each other one; the tax; memory; what others did."""
    names = list(dict.fromkeys(run["contender"] for run in runs))
    figures = {figure: _figure(runs, figure, names) for case in cases for figure in figure_names(case)}
    tax = figures.get(f"{TAX_CASE} steady", {}).get("ratios", {}).get(REFERENCE)
    others = spread([run.get("others_cores") for run in runs])
    return {"figures": figures, "tax": tax, "memory": _memory(memory), "others_cores": others}


def spread(values: Sequence[Value]) -> Json | None:
    """Over the rounds that have the figure; None where none has."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"median": round(median(known), 6), "min": min(known), "max": max(known), "rounds": len(known)}


def ratios(ours: Sequence[Value], theirs: Sequence[Value]) -> list[Value]:
    """Round by round; None where either has no figure."""
    return [
        round(our / their, 6) if our is not None and their else None
        for our, their in zip(ours, theirs, strict=False)
    ]


def _figure(runs: Sequence[Json], figure: str, names: Sequence[str]) -> Json:
    values = {name: _by_round(runs, figure, name) for name in names}
    others = [name for name in names if name != POD]
    return {
        "contenders": {name: spread(values[name]) for name in names},
        "ratios": {name: spread(ratios(values[POD], values[name])) for name in others if POD in values},
    }


def _by_round(runs: Sequence[Json], figure: str, name: str) -> list[Value]:
    """A place for each round, also for one that was cut off before this figure."""
    found = {run["round"]: run["figures"][figure] for run in runs if _has(run, figure, name)}
    return [found.get(number) for number in range(1 + max(run["round"] for run in runs))]


def _has(run: Json, figure: str, name: str) -> bool:
    return bool(run["contender"] == name and figure in run["figures"])


def _memory(memory: Sequence[Json]) -> Json:
    """By contender: the spread of the whole, and the median of each kind of process."""
    names = dict.fromkeys(record["contender"] for record in memory)
    sizes = {name: [each["pss_bytes"] for each in memory if each["contender"] == name] for name in names}
    return {
        name: {
            "pss_bytes": spread([sum(kinds.values()) for kinds in each]),
            "kinds": {kind: round(median(kinds.get(kind, 0) for kinds in each)) for kind in each[0]},
        }
        for name, each in sizes.items()
    }
