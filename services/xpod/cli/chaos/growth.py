"""What processes hold over time, and whether it grows.

Knows: samples. Does not know: how they are taken. Pure.

A process that was started anew begins small, so sums over a kind say little while members come and go. Growth is that
of processes that live: one slope through the samples of all lives, each about its own mean.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from xpod.cli.chaos.target import Usage

YOUNG_SECONDS = 20.0
"""A process that was seen for the first time so recently still fills its caches: no trend."""


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

    `seconds` is the longest that one was watched.
    """
    lives = _old(samples, kind)
    watched = max((points[-1][0] - points[0][0] for points in lives), default=0.0)
    memory, files = (
        slope([[(point[0], point[field]) for point in points] for points in lives]) for field in (1, 2)
    )
    return {
        "memory_per_minute": None if memory is None else 60 * memory,
        "files_per_minute": None if files is None else 60 * files,
        "seconds": watched,
    }


def slope(lines: Iterable[Sequence[tuple[float, float]]]) -> float | None:
    """The one slope that fits points (x, y) of several parallel lines best (least squares); None without a spread."""
    above = below = 0.0
    for points in lines:
        x, y = (sum(column) / len(points) for column in zip(*points, strict=True))
        above += sum((each[0] - x) * (each[1] - y) for each in points)
        below += sum((each[0] - x) ** 2 for each in points)
    return above / below if below > 0 else None


def _old(samples: Sequence[Sample], kind: str) -> list[list[tuple[float, float, float]]]:
    """(seconds, bytes, files) for each life, from when it is no longer young."""
    lives: dict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
    for sample in samples:
        for usage in sample.usage:
            if usage.life.kind == kind:
                lives[usage.life.member, usage.life.name].append((sample.at, usage.memory, usage.files))
    old = (
        [point for point in points if point[0] - points[0][0] >= YOUNG_SECONDS] for points in lives.values()
    )
    return [points for points in old if points]
