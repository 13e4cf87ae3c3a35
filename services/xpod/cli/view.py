"""Tables for people.

Knows: rich, and the objects that it shows.
Does not know: where they come from.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from xpod.cli.state import PodState

STYLES = {"up": "green", "starting": "cyan", "suspect": "yellow", "draining": "yellow", "down": "red"}
NOT_FOR_EYES = {"model", "fingerprint", "dtype", "device", "placement_epoch", "metrics"}
"""The same for all, or long."""
COLUMNS = ("member", "kind", "pid", "state", "since", "detail")


def members_table(members: Iterable[dict[str, Any]], now: float) -> Table:
    """The members of `xpod status`."""
    table = _table(*COLUMNS)
    for member in members:
        told = {name: value for name, value in member["detail"].items() if value and name not in NOT_FOR_EYES}
        detail = ", ".join(f"{name} {_short(value)}" for name, value in told.items())
        pid = str(member["pid"] or "")
        table.add_row(
            member["id"],
            member["kind"],
            pid,
            _state(member["state"]),
            age(member["since"], now),
            Text(detail),
        )
    return table


def launched_table(state: PodState, now: float) -> Table:
    """The members of a pod that this machine launched, with what its launcher knows of them."""
    table = _table("member", "pid", "state", "for", "restarts", "")
    table.title = f"{state.pod}: {state.phase}, {', '.join(state.endpoints)}"
    for member in state.members:
        pid = str(member.process.pid) if member.process else ""
        restarts = str(member.restarts or "")
        table.add_row(
            member.id, pid, _state(member.state), age(member.since, now), restarts, Text(member.note)
        )
    return table


def placement_line(placement: dict[str, Any]) -> str:
    """One line on how many experts, over all layers, each shard holds."""
    held: Counter[str] = Counter()
    for experts in (placement.get("experts") or {}).values():
        for shards in experts.values():
            held.update(shards)
    shares = ", ".join(f"{shard} holds {count}" for shard, count in sorted(held.items()))
    return f"placement epoch {placement.get('epoch', 0)}: {shares or 'none yet'}"


def age(since: object, now: float | None = None) -> str:
    """How long ago, for people; `since` is in Unix seconds or in ISO 8601."""
    now = time.time() if now is None else now
    try:
        start = (
            float(since) if isinstance(since, int | float) else datetime.fromisoformat(str(since)).timestamp()
        )
    except ValueError:
        return str(since)
    seconds = max(0.0, now - start)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column in {"member", "kind", "state"})
    return table


def _state(state: str) -> Text:
    return Text(state, STYLES.get(state, ""))


def _short(value: object) -> str:
    if value is True:
        return "yes"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
