"""Trials added up: one line for each kind of fault, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from xpod.cli.bench.figures import percentile
from xpod.cli.chaos.target import POD
from xpod.cli.chaos.trial import Cell, Outcome, Phase
from xpod.cli.figures_table import figures_table

COLUMNS = (
    "fault", "phase", "trials", "wrong", "lost", "doubled", "changed", "errors", "recoveries", "recomputed", "each",
    "> block", "without", "gap p50", "gap p99", "restart / gap", "whole p50",
)  # fmt: skip


def summary(
    outcomes: Sequence[Outcome], quiet: Mapping[Phase, Sequence[float]] | None = None
) -> list[dict[str, Any]]:
    """One object a cell, in the order of the first trial of each. Seconds.

    `restart_ratio` is how many times longer clients wait for a restart of the whole pod, `gap_without` the longest that
    they wait in trials of the phase without a fault (median of `quiet`); None where that is not known.
    """
    cells: dict[Cell, list[Outcome]] = {}
    for outcome in outcomes:
        cells.setdefault(outcome.cell, []).append(outcome)
    restarts = sorted(outcome.gap for outcome in outcomes if outcome.cell.kind == POD)
    restart = percentile(restarts, 0.5) if restarts else None
    without = {phase: percentile(sorted(gaps), 0.5) for phase, gaps in (quiet or {}).items()}
    return [
        {**_row(cell, group, restart), "gap_without": without.get(cell.phase)}
        for cell, group in cells.items()
    ]


def _row(cell: Cell, group: list[Outcome], restart: float | None) -> dict[str, Any]:
    verdicts = [verdict for outcome in group for verdict in outcome.verdicts]
    again = [outcome.again for outcome in group if outcome.again is not None]
    gaps, wholes = ([getattr(outcome, name) for outcome in group] for name in ("gap", "whole"))
    gap = percentile(sorted(gaps), 0.5)
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
        "reopened": sum(each.reopened for each in again) if again else None,
        "recomputed": sum(each.recomputed for each in again) if again else None,
        "recomputed_far": sum(each.far for each in again) if again else None,
        "gap_p50": gap,
        "gap_p99": percentile(sorted(gaps), 0.99),
        "restart_ratio": restart / gap if restart is not None and cell.kind != POD and gap > 0 else None,
        "whole_p50": percentile(sorted(wholes), 0.5),
    }


def as_table(rows: list[dict[str, Any]]) -> Table:
    """For a terminal."""
    table = figures_table(*COLUMNS, names=2)
    for row in rows:
        counts = (row[name] for name in ("trials", "wrong", "lost", "doubled", "changed"))
        table.add_row(
            f"{row['kind']} {row['signal']}",
            row["phase"],
            *map(str, counts),
            str(len(row["errors"])),
            str(row["recoveries"]),
            *_recomputed(row),
            "" if row["gap_without"] is None else f"{row['gap_without']:.2f} s",
            *(f"{row[name]:.2f} s" for name in ("gap_p50", "gap_p99")),
            "" if row["restart_ratio"] is None else f"{row['restart_ratio']:.0f} ×",
            f"{row['whole_p50']:.2f} s",
        )
    return table


def _recomputed(row: dict[str, Any]) -> tuple[str, str, str]:
    """Tokens, tokens for each session that went on elsewhere, sessions with more than a block."""
    if row["recomputed"] is None:
        return "all", "", ""
    each = f"{row['recomputed'] / row['reopened']:.1f}" if row["reopened"] else ""
    return str(row["recomputed"]), each, str(row["recomputed_far"])
