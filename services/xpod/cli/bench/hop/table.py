"""The hop's figures as rows of text, and as the table that a person reads.

Knows: which figures are worth a column, and what they are called.
Does not know: where they come from.
"""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from xpod.cli.bench.compare.table import disturbed
from xpod.cli.bench.hop.split import PARTS
from xpod.cli.figures_table import figures_table

Json = dict[str, Any]
HEADER = ("rows", "whole", "p95", *PARTS, "all but compute", "raw echo")
COLUMNS = (
    ("whole", "p50"),
    ("whole", "p95"),
    *((part, "p50") for part in PARTS),
    ("rest", "p50"),
    ("echo", "p50"),
)


def cells(report: Json) -> list[list[str]]:
    """One line for each row count, below HEADER: medians in ms, but for `p95`."""
    return [
        [rows, *(f"{found[name][share]:.2f}" for name, share in COLUMNS)]
        for rows, found in report["figures"].items()
    ]


def remarks(report: Json) -> list[str]:
    """What is said in words."""
    pod = report["pod"]
    shards = len(pod["held"])
    way = "large messages pass in shared memory" if pod["frames"] else "all goes over NATS"
    found = [f"{shards} shard{'s' if shards != 1 else ''}, {way}; medians in ms, which need not add up"]
    if report["repeated"]:
        found.append(f"{report['repeated']} exchanges are left out: a call had to be made again")
    return found + disturbed(report)


def as_text(report: Json) -> RenderableType:
    table = figures_table(*HEADER, names=0)
    for line in cells(report):
        table.add_row(*line)
    return Group(table, *(Text(line) for line in remarks(report)))
