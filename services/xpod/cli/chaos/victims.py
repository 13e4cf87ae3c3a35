"""Whom a storm may hit: a pure rule."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence


def victims(members: Mapping[str, Sequence[str]], away: Collection[str]) -> list[str]:
    """Those that may be hit now, given all members by kind, and who was hit and is not back.

    Nothing serves a pod without any member of a kind: one of each stays. NATS nodes agree by majority: more than half
    of them stay.
    """
    return [
        member
        for kind, names in members.items()
        for member in names
        if member not in away and _spare(kind, len(names)) > sum(name in away for name in names)
    ]


def _spare(kind: str, count: int) -> int:
    """How many of so many may be away."""
    return (count - 1) // 2 if kind == "nats" else count - 1
