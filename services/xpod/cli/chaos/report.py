"""Trials added up: one line for each kind of fault, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from xpod.cli.bench.figures import percentile
from xpod.cli.chaos.trial import Cell, Outcome

COLUMNS = (
    "fault", "phase", "trials", "wrong", "lost", "doubled", "changed", "errors", "recoveries", "gap p50", "gap p99",
    "whole p50",
)  # fmt: skip


def summary(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One object a cell, in the order of the first trial of each. Seconds."""
    cells: dict[Cell, list[Outcome]] = {}
    for outcome in outcomes:
        cells.setdefault(outcome.cell, []).append(outcome)
    return [_row(cell, group) for cell, group in cells.items()]


def _row(cell: Cell, group: list[Outcome]) -> dict[str, Any]:
    verdicts = [verdict for outcome in group for verdict in outcome.verdicts]
    gaps, wholes = ([getattr(outcome, name) for outcome in group] for name in ("gap", "whole"))
    return {
        "kind": cell.kind,
        "signal": cell.signal,
        "phase": cell.phase,
        "trials": len(group),
        "streams": sum(len(outcome.verdicts) + len(outcome.errors) for outcome in group),
        "wrong": sum(outcome.wrong for outcome in group),
        "lost": sum(verdict.lost for verdict in verdicts),
        "doubled": sum(verdict.doubled for verdict in verdicts),
        "changed": sum(verdict.changed for verdict in verdicts),
        "other": [verdict.other for verdict in verdicts if verdict.other],
        "errors": [error for outcome in group for error in outcome.errors],
        "recoveries": sum(outcome.recoveries for outcome in group),
        "gap_p50": percentile(sorted(gaps), 0.5),
        "gap_p99": percentile(sorted(gaps), 0.99),
        "whole_p50": percentile(sorted(wholes), 0.5),
    }


def as_table(rows: list[dict[str, Any]]) -> Table:
    """For a terminal."""
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows:
        counts = (row[name] for name in ("trials", "wrong", "lost", "doubled", "changed"))
        table.add_row(
            f"{row['kind']} {row['signal']}",
            row["phase"],
            *map(str, counts),
            str(len(row["errors"])),
            str(row["recoveries"]),
            *(f"{row[name]:.2f} s" for name in ("gap_p50", "gap_p99", "whole_p50")),
        )
    return table
