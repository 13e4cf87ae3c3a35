"""What many exchanges say together.

Knows: medians and percentiles by row count.
Does not know: how they were measured. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from xpod.cli.bench.figures import figures
from xpod.cli.bench.hop.split import PARTS

Json = dict[str, Any]
FIGURES = ("whole", *PARTS, "rest", "begin", "echo")


def summary(exchanges: Sequence[Json]) -> dict[str, Json]:
    """By row count: percentiles of each part over its exchanges, in ms, and the usual sizes of the slowest call."""
    counts = sorted({each["rows"] for each in exchanges})
    return {str(rows): _of([each for each in exchanges if each["rows"] == rows]) for rows in counts}


def _of(exchanges: Sequence[Json]) -> Json:
    sizes = ("calls", "call_bytes", "reply_bytes")
    return {
        **{name: round(median(each[name] for each in exchanges)) for name in sizes},
        **{name: _figures([each[name] for each in exchanges]) for name in FIGURES},
    }


def _figures(values: Sequence[float]) -> Json | None:
    found = figures(values)
    return found.as_json() if found else None
