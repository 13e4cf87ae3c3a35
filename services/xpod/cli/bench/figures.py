"""Many measurements become a few figures.

Knows: means, and percentiles by linear interpolation between the two nearest values.
Does not know: what was measured. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import floor


@dataclass(frozen=True, slots=True)
class Figures:
    """Of `count` measurements, in their unit."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    min: float
    max: float

    def as_json(self) -> dict[str, float]:
        return {name: round(value, 6) for name, value in asdict(self).items()}


def figures(values: Sequence[float]) -> Figures | None:
    """None where nothing was measured: there is no figure for that."""
    if not values:
        return None
    ordered = sorted(values)
    p50, p95, p99 = (percentile(ordered, share) for share in (0.50, 0.95, 0.99))
    mean = sum(ordered) / len(ordered)
    return Figures(len(ordered), mean, p50, p95, p99, ordered[0], ordered[-1])


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the ordered values lie."""
    position = share * (len(ordered) - 1)
    below = floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
