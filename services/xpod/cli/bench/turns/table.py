"""Conversations under each caching and routing, as the table that a person reads.

Knows: which figures are worth a column, and what they are called.
Does not know: where they come from.
"""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from xpod.cli.bench.compare.table import MISSING, disturbed, number
from xpod.cli.figures_table import figures_table

Json = dict[str, Any]
COLUMNS = {
    "computed_tokens": ("computed", 0),
    "hit_rate": ("hit rate", 3),
    "ttft_p50_ms": ("TTFT p50", 0),
    "ttft_p99_ms": ("p99", 0),
    "jct_mean_ms": ("JCT mean", 0),
    "jct_p50_ms": ("p50", 0),
    "jct_p99_ms": ("p99", 0),
}
"""By figure: its heading, and digits after the point."""
TO_BASIC = {"computed_tokens": "computed / basic", "ttft_p50_ms": "TTFT p50 / basic"}
HEADER = (
    "caching",
    "routing",
    *(heading for heading, _ in COLUMNS.values()),
    *TO_BASIC.values(),
    "failed",
    "different",
)


def cells(report: Json) -> list[list[str]]:
    """One line for each combination, below HEADER; times in ms."""
    return [
        [
            line["caching"],
            line["routing"],
            *(number(line[name], digits) for name, (_, digits) in COLUMNS.items()),
            *(number(line["to_basic"][name], 2) for name in TO_BASIC),
            *(str(line[name]) for name in ("failed", "different")),
        ]
        for line in report["combinations"]
    ]


def remarks(report: Json) -> list[str]:
    """What is said in words."""
    found = [
        f"caching {caching}: p99 TTFT with prompt-tree is {number(ratio, 2)} of that with session"
        for caching, ratio in report["prompt_tree_to_session"].items()
        if number(ratio, 2) != MISSING
    ]
    unasked = sum(line["unasked"] for line in report["combinations"])
    found += [f"{unasked} turns were never asked: one before them failed"] if unasked else []
    return found + disturbed(report)


def as_text(report: Json) -> RenderableType:
    table = figures_table(*HEADER, names=2)
    for line in cells(report):
        table.add_row(*line)
    return Group(table, *(Text(line) for line in remarks(report)))
