"""What a pod's members measured at one moment, from their metrics' texts.

Knows: Prometheus' text form. Does not know: what a metric means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Samples:
    """All samples of one member, by name."""

    by_name: Mapping[str, list[tuple[Labels, float]]] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> Samples:
        """Raises ValueError for what is not in that form."""
        found: dict[str, list[tuple[Labels, float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return cls(found)

    def series(self, name: str, **labels: str) -> Iterator[tuple[Labels, float]]:
        """The samples of that name that have these labels."""
        for found, value in self.by_name.get(name, ()):
            if labels.items() <= found.items():
                yield found, value

    def sum(self, name: str, **labels: str) -> float:
        """0 where there are none."""
        return sum(value for _, value in self.series(name, **labels))


@dataclass(frozen=True, slots=True)
class Moment:
    """A pod at one moment: seconds on any clock, the object of `xpod status --json`, and what members measured."""

    at: float
    status: dict[str, Any]
    samples: Mapping[str, Samples] = field(default_factory=dict)

    @property
    def members(self) -> list[dict[str, Any]]:
        return list(self.status.get("members", []))
