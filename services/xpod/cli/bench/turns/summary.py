"""What all pods' conversations say together.

Knows: spreads over the rounds; ratios are taken within a round, where the machine was the same for both.
Does not know: how it was measured. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from xpod.cli.bench.compare.summary import Value, ratios, spread
from xpod.cli.reuse import DEFAULT_ROUTING

Json = dict[str, Any]
Pair = tuple[str, str]
"""Caching and routing."""
BASIC, SESSION = "basic", "session"


def _of(name: str, share: str) -> Callable[[Json], Value]:
    def value(run: Json) -> Value:
        found = run[name]
        return found[share] if found else None

    return value


FIGURES: dict[str, Callable[[Json], Value]] = {
    "computed_tokens": lambda run: run["computed_tokens"],
    "hit_rate": lambda run: run["hit_rate"],
    "ttft_p50_ms": _of("ttft_ms", "p50"),
    "ttft_p99_ms": _of("ttft_ms", "p99"),
    "jct_mean_ms": _of("jct_ms", "mean"),
    "jct_p50_ms": _of("jct_ms", "p50"),
    "jct_p99_ms": _of("jct_ms", "p99"),
}
TO_BASIC = ("computed_tokens", "ttft_p50_ms", "ttft_p99_ms", "jct_mean_ms")


def summary(runs: Sequence[Json]) -> Json:
    """`combinations`: a line for each caching and routing.

    `prompt_tree_to_session`: the ratio of their p99 TTFT, by caching.
    """
    pairs = list(dict.fromkeys((run["caching"], run["routing"]) for run in runs))
    return {
        "combinations": [_line(runs, pair, pairs) for pair in pairs],
        "prompt_tree_to_session": {
            caching: spread(_ratio(runs, (caching, DEFAULT_ROUTING), (caching, SESSION), "ttft_p99_ms"))
            for caching, routing in pairs
            if routing == SESSION and (caching, DEFAULT_ROUTING) in pairs
        },
    }


def _line(runs: Sequence[Json], pair: Pair, pairs: Sequence[Pair]) -> Json:
    mine = [run for run in runs if (run["caching"], run["routing"]) == pair]
    basic = next((each for each in ((BASIC, pair[1]), (BASIC, DEFAULT_ROUTING)) if each in pairs), None)
    return {
        "caching": pair[0],
        "routing": pair[1],
        **{name: spread(_by_round(runs, pair, name)) for name in FIGURES},
        **{name: sum(run[name] for run in mine) for name in ("failed", "unasked", "different")},
        "to_basic": {
            name: spread(_ratio(runs, pair, basic, name)) if basic and basic != pair else None
            for name in TO_BASIC
        },
    }


def _ratio(runs: Sequence[Json], one: Pair, other: Pair, name: str) -> list[Value]:
    return ratios(_by_round(runs, one, name), _by_round(runs, other, name))


def _by_round(runs: Sequence[Json], pair: Pair, name: str) -> list[Value]:
    """A place for each round; no figure where a turn is missing, since the others are not the same load then."""
    found = {
        run["round"]: FIGURES[name](run)
        for run in runs
        if (run["caching"], run["routing"]) == pair and not run["failed"]
    }
    return [found.get(number) for number in range(1 + max(run["round"] for run in runs))]
