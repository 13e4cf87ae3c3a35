"""A comparison, as the table that a person reads.

Knows: which parts of a report are worth a line.
Does not know: where they come from.
"""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xpod.cli.bench.compare.summary import POD
from xpod.cli.figures_table import figures_table

Json = dict[str, Any]
MISSING = "-"
WORTH_TELLING = 0.2
"""Cores. A contender's own work in the kernel's name is less."""


def as_text(report: Json) -> RenderableType:
    return Group(_figures_table(report), *(Text(line) for line in lines(report)))


def lines(report: Json) -> list[str]:
    """What is said in words: the tax, and memory."""
    found = []
    if report["tax"]:
        tax = number(report["tax"], 2)
        found.append(f"disaggregation: at decode-32 the pod does {tax} of what one process does")
    found += [_memory_line(name, each, report) for name, each in report["memory"].items()]
    return found + disturbed(report)


def disturbed(report: Json) -> list[str]:
    """Whether somebody else used the machine meanwhile; nothing where nobody did."""
    others = report["others_cores"]
    if others is None or others["max"] < WORTH_TELLING:
        return []
    return [f"others kept {number(others, 2)} cores busy meanwhile"]


def number(spread: Json | None, digits: int) -> str:
    """The median, and from where to where the rounds went."""
    if spread is None:
        return MISSING
    middle, low, high = (f"{spread[name]:.{digits}f}" for name in ("median", "min", "max"))
    return middle if spread["rounds"] == 1 else f"{middle} ({low}-{high})"


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


def _figures_table(report: Json) -> Table:
    names = list(report["contenders"])
    others = [name for name in names if name != POD]
    table = figures_table("tokens per second", *names, *(f"{POD}/{name}" for name in others))
    for figure, found in report["figures"].items():
        rates = [number(found["contenders"].get(name), 1) for name in names]
        table.add_row(figure, *rates, *(number(found["ratios"].get(name), 2) for name in others))
    return table


def _memory_line(name: str, memory: Json, report: Json) -> str:
    line = f"memory: {name} {gigabytes(memory['pss_bytes']['median'])}"
    budget = report["contenders"][name].get("budget_bytes")
    if budget:
        line += f" of {gigabytes(budget)}"
    kinds = [f"{kind} {gigabytes(size)}" for kind, size in memory["kinds"].items() if kind != name]
    return f"{line} ({', '.join(kinds)})" if kinds else line
