"""Which ways of caching and routing are compared.

Knows: which ones say most for their time.
Does not know: what they do. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from xpod.cli.errors import BAD_USAGE, CliError
from xpod.cli.reuse import CACHINGS, DEFAULT_CACHING, DEFAULT_ROUTING, ROUTINGS, Reuse

GIVEN = "as given"


def combinations(
    cachings: Sequence[str], routings: Sequence[str], everything: bool, room: Reuse
) -> list[Reuse]:
    """Those that were chosen, else each step of either ladder with the last step of the other; in `room`'s room."""
    if everything and (cachings or routings):
        raise CliError("--all excludes --caching and --routing", BAD_USAGE)
    _refuse_unknown("--caching", cachings, CACHINGS)
    _refuse_unknown("--routing", routings, ROUTINGS)
    pairs: Sequence[tuple[str, str]]
    if everything:
        pairs = list(product(CACHINGS, ROUTINGS))
    elif cachings or routings:
        pairs = list(product(cachings or (DEFAULT_CACHING,), routings or (DEFAULT_ROUTING,)))
    else:
        pairs = [(caching, DEFAULT_ROUTING) for caching in CACHINGS] + [
            (DEFAULT_CACHING, routing) for routing in ROUTINGS
        ]
    return [replace(room, caching=caching, routing=routing) for caching, routing in dict.fromkeys(pairs)]


def given() -> list[Reuse]:
    """That of a pod which runs already."""
    return [Reuse(routing=GIVEN, caching=GIVEN)]


def _refuse_unknown(option: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise CliError(f"{option}: {name!r} is not one of {', '.join(known)}", BAD_USAGE)
