"""What all rounds say together.

Knows: spreads over the rounds; ratios are taken within a round.
Does not know: how it was measured. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpod.cli.bench.compare.summary import Value, ratios, spread

Json = dict[str, Any]
REQUESTS = ("cold", "warm", "again")


def summary(requests: Sequence[Json]) -> dict[str, Json]:
    """By variant: time to first token and cached tokens of each request, and ratios to the cold one."""
    variants = dict.fromkeys(each["variant"] for each in requests)
    return {name: _of([each for each in requests if each["variant"] == name]) for name in variants}


def _of(requests: Sequence[Json]) -> Json:
    cold, *others = REQUESTS
    first = _by_round(requests, cold, "ttft_ms")
    return {
        "ttft_ms": {name: spread(_by_round(requests, name, "ttft_ms")) for name in REQUESTS},
        "cached_tokens": {name: spread(_by_round(requests, name, "cached_tokens")) for name in REQUESTS},
        "to_cold": {name: spread(ratios(_by_round(requests, name, "ttft_ms"), first)) for name in others},
        "failed": sum(bool(each["error"]) for each in requests),
        "different": sum(each["different"] for each in requests),
    }


def _by_round(requests: Sequence[Json], name: str, figure: str) -> list[Value]:
    found = {
        each["round"]: each[figure] for each in requests if each["request"] == name and not each["error"]
    }
    return [found.get(number) for number in range(1 + max(each["round"] for each in requests))]
