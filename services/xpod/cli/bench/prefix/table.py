"""Cold and warm prompts, as the table that a person reads.

Knows: which figures are worth a line.
Does not know: where they come from.
"""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from xpod.cli.bench.compare.table import disturbed, number
from xpod.cli.bench.prefix.summary import REQUESTS
from xpod.cli.figures_table import figures_table

Json = dict[str, Any]
HEADER = ("pod", "request", "TTFT", "cached tokens", "TTFT / cold")


def cells(report: Json) -> list[list[str]]:
    """Three lines for each variant, below HEADER; times in ms."""
    return [
        [
            variant,
            request,
            number(found["ttft_ms"][request], 1),
            number(found["cached_tokens"][request], 0),
            number(found["to_cold"].get(request), 3),
        ]
        for variant, found in report["figures"].items()
        for request in REQUESTS
    ]


def remarks(report: Json) -> list[str]:
    """What is said in words."""
    found = [
        f"{variant}: {each[name]} {words}"
        for variant, each in report["figures"].items()
        for name, words in (
            ("failed", "requests failed"),
            ("different", "answers were other ones than before"),
        )
        if each[name]
    ]
    return found + disturbed(report)


def as_text(report: Json) -> RenderableType:
    table = figures_table(*HEADER, names=2)
    for line in cells(report):
        table.add_row(*line)
    return Group(table, *(Text(line) for line in remarks(report)))
