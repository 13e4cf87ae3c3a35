"""The newest requests of a pod, as a table.

Knows: rich, and the first span of a request. Does not know: where they come from.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from xpod.cli.trace.lines import duration
from xpod.cli.trace.tree import Json, Span
from xpod.cli.view import age

COLUMNS = ("request", "ago", "took", "ttft", "tokens", "end", "recoveries")


def recent_table(requests: Sequence[Json], now: float) -> Table:
    """`now` is a Unix time in seconds; `ttft` the time to the first token."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in COLUMNS:
        table.add_column(column, no_wrap=True)
    for told in requests:
        table.add_row(*_row(Span.of(told), now))
    return table


def _row(span: Span, now: float) -> tuple[str, ...]:
    figures = span.attributes
    first = figures.get("gen_ai.server.time_to_first_token")
    return (
        str(figures.get("gen_ai.response.id") or figures.get("session", span.trace)),
        age(span.start / 1e9, now),
        "goes on" if span.end is None else duration(span.end - span.start),
        "" if first is None else duration(round(first * 1e9)),
        str(figures.get("gen_ai.usage.output_tokens", "")),
        span.error or str(figures.get("gen_ai.response.finish_reasons", "")),
        str(figures.get("recoveries") or ""),
    )
