"""All row counts in turn, round after round, each exchange followed by a raw echo of as many bytes.

Knows: the order, and what of an exchange is kept. What it has found can be read at any time.
Does not know: who answers, or which figures are worth what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from xpod.cli.bench.hop.exchange import Exchanged
from xpod.cli.bench.hop.split import MS

Json = dict[str, Any]
MANY_ROWS = 64
SELDOM = 4
"""Row counts above MANY_ROWS take part in one round of so many."""
Exchange = Callable[[int], Exchanged | None]
"""So many rows there and back; None: it does not count."""
Echo = Callable[[int, int], float]
"""So many bytes there and so many back, in seconds."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`rows`: row counts, each once in a round."""

    rows: tuple[int, ...]
    rounds: int
    seed: int


@dataclass(slots=True)
class Found:
    """`exchanges`: one record for each; `repeated`: how many are left out, because a call was made again."""

    exchanges: list[Json] = field(default_factory=list)
    repeated: int = 0
    others_cores: float | None = None
    pod: Json = field(default_factory=dict)


def schedule(plan: Plan) -> Iterator[tuple[int, int]]:
    """(round, rows); another one begins each round, so that coming after a large one is nobody's lot."""
    for number in range(plan.rounds):
        start = number % len(plan.rows)
        for rows in (*plan.rows[start:], *plan.rows[:start]):
            if rows <= MANY_ROWS or number % SELDOM == 0:
                yield number, rows


def warm_up(exchange: Exchange, plan: Plan, layers: int) -> None:
    """Every layer and every row count, twice: memory is mapped then, and whoever shares it has met."""
    for index in range(2 * max(layers, len(plan.rows))):
        exchange(plan.rows[index % len(plan.rows)])


def measure(exchange: Exchange, echo: Echo, plan: Plan, found: Found) -> None:
    """Adds to `found` as it goes."""
    for number, rows in schedule(plan):
        exchanged = exchange(rows)
        if exchanged is None:
            found.repeated += 1
        else:
            echoed = echo(exchanged.call_bytes, exchanged.reply_bytes)
            found.exchanges.append(_record(number, rows, exchanged, echoed))


def _record(number: int, rows: int, exchanged: Exchanged, echoed: float) -> Json:
    record = {"round": number, "rows": rows, **asdict(exchanged)}
    del record["split"]
    return {**record, **exchanged.split.as_json(), "echo": round(echoed * MS, 4)}
