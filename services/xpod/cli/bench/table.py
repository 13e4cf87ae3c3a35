"""A report, as the tables that a person reads.

Knows: which figures of a report are worth a line.
Does not know: where they come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xpod.cli.figures_table import figures_table

Json = dict[str, Any]
LATENCIES = {
    "ttft_ms": "time to first token",
    "inter_token_ms": "between chunks",
    "time_per_token_ms": "per token after the first",
    "e2e_ms": "whole request",
}
COLUMNS = ("mean", "p50", "p95", "p99", "max")
RATES = {
    "requests_per_s": "requests",
    "prompt_tokens_per_s": "prompt tokens",
    "output_tokens_per_s": "output tokens",
}


def as_text(report: Json) -> RenderableType:
    """The tables that a terminal gets."""
    parts: list[RenderableType] = [Text(line) for line in _lines(report)]
    parts.append(_latency_table(report))
    if report["errors"]:
        parts.append(_error_table(report["errors"]))
    return Group(*parts)


def _lines(report: Json) -> list[str]:
    requests, tokens, rates = report["requests"], report["tokens"], report["throughput"]
    counted = [f"{requests['completed']} completed"]
    counted += [f"{requests[name]} {name}" for name in ("failed", "unfinished") if requests[name]]
    counted += [f"{requests['ended_early']} ended early"] if requests["ended_early"] else []
    prompt = "? prompt" if tokens["prompt"] is None else f"{tokens['prompt']} prompt"
    cached = f" ({tokens['prompt_cached']} from a cache)" if tokens["prompt_cached"] else ""
    return [
        f"requests    {', '.join(counted)} in {report['duration_s']:.2f} s",
        f"tokens      {prompt}{cached}, {tokens['output']} output",
        "per second  " + ", ".join(f"{_number(rates[name])} {words}" for name, words in RATES.items()),
    ]


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.2f}"


def _latency_table(report: Json) -> Table:
    table = figures_table("ms", *COLUMNS)
    for name, words in LATENCIES.items():
        found = report[name]
        table.add_row(words, *(_number(found[column] if found else None) for column in COLUMNS))
    return table


def _error_table(errors: Sequence[Json]) -> Table:
    table = Table("error", "count", "first", box=None, pad_edge=False)
    for error in errors:
        table.add_row(error["kind"], str(error["count"]), Text(error["first"]))
    return table
