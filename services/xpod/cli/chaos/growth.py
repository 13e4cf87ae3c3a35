"""What processes hold over time, and whether it grows.

Knows: samples. Does not know: how they are taken. Pure.

A process that was started anew begins small, so sums over a kind say little while members come and go. Two figures say
more. The slope of processes that live: one line through the samples of all lives, each about its own mean. And what a
process held on average in the middle third of the time and in the last one: that finds too what a member takes up again
when it is started anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from xpod.cli.chaos.target import Usage

ENOUGH_SECONDS = 300.0
"""A shorter time has no thirds: caches still fill."""
FLAT = 1.15
"""The last third by the middle one: so much is chance, above it is growth."""
YOUNG_SECONDS = 20.0
"""A process that was seen for the first time so recently still fills its caches: no trend."""
Point = tuple[float, float, float]
"""Seconds, bytes, files."""


@dataclass(frozen=True, slots=True)
class Sample:
    """All processes at one moment, in seconds from the first sample."""

    at: float
    usage: list[Usage]


def by_kind(sample: Sample) -> dict[str, dict[str, int]]:
    """Sums: processes, bytes, open files."""
    sums: dict[str, dict[str, int]] = {}
    for usage in sample.usage:
        kind = sums.setdefault(usage.life.kind, {"processes": 0, "memory": 0, "files": 0})
        kind["processes"] += 1
        kind["memory"] += usage.memory
        kind["files"] += usage.files
    return sums


def growth(samples: Sequence[Sample], kind: str) -> dict[str, Any]:
    """Of one process of the kind, a minute: bytes and files; None where none was seen old for long enough.

    `seconds` is the longest that one was watched. `memory` and `files` are what a process held on average in the
    middle third of the time and in the last; None where none was old then.
    """
    lives = _old(samples, kind)
    watched = max((points[-1][0] - points[0][0] for points in lives), default=0.0)
    memory, files = (
        slope([[(point[0], point[field]) for point in points] for points in lives]) for field in (1, 2)
    )
    middle, last = (_third(samples[-1].at, lives, which) for which in (1, 2))
    return {
        "memory_per_minute": None if memory is None else 60 * memory,
        "files_per_minute": None if files is None else 60 * files,
        "seconds": watched,
        "memory": (middle[0], last[0]),
        "files": (middle[1], last[1]),
    }


def growing(samples: Sequence[Sample]) -> list[str]:
    """What processes hold more and more of, as "decode: memory"; nothing where the time was too short to say so."""
    if samples[-1].at < ENOUGH_SECONDS:
        return []
    held = {kind: growth(samples, kind) for kind in kinds(samples)}
    return [
        f"{kind}: {field}"
        for kind, grown in held.items()
        for field in ("memory", "files")
        if None not in grown[field] and grown[field][1] > FLAT * grown[field][0]
    ]


def kinds(samples: Iterable[Sample]) -> list[str]:
    """In the order in which they were seen."""
    return list(dict.fromkeys(kind for sample in samples for kind in by_kind(sample)))


def _third(end: float, lives: Iterable[Iterable[Point]], which: int) -> tuple[float | None, float | None]:
    """(bytes, files) that a process held on average in that third of the time: 0, 1 or 2."""
    points = [point for life in lives for point in life if which <= 3 * point[0] / end <= which + 1]
    if not points:
        return None, None
    return mean(point[1] for point in points), mean(point[2] for point in points)


def slope(lines: Iterable[Sequence[tuple[float, float]]]) -> float | None:
    """The one slope that fits points (x, y) of several parallel lines best (least squares); None without a spread."""
    above = below = 0.0
    for points in lines:
        x, y = (sum(column) / len(points) for column in zip(*points, strict=True))
        above += sum((each[0] - x) * (each[1] - y) for each in points)
        below += sum((each[0] - x) ** 2 for each in points)
    return above / below if below > 0 else None


def _old(samples: Sequence[Sample], kind: str) -> list[list[Point]]:
    """(seconds, bytes, files) for each life, from when it is no longer young."""
    lives: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for sample in samples:
        for usage in sample.usage:
            if usage.life.kind == kind:
                lives[usage.life.member, usage.life.name].append((sample.at, usage.memory, usage.files))
    old = (
        [point for point in points if point[0] - points[0][0] >= YOUNG_SECONDS] for points in lives.values()
    )
    return [points for points in old if points]
