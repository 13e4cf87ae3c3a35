"""Histograms for the path of every token: a fraction of a microsecond for each value.

prometheus_client's own take a lock and walk through their buckets. These are written by one thread; a scrape may see a
value in its bucket that is not in the sum yet. Knows: buckets. Does not know: what is measured.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)


class Tally:
    """Counts values by the least of `bounds` (ascending) that is not below them."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def note(self, value: float) -> None:
        """One more."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """(upper bound, how many values are not above it), as Prometheus has them."""
        bounds = [*(str(float(bound)) for bound in self.bounds), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self.counts)), strict=True))


class TallyCollector(Collector):
    """A histogram `name`: one series for each value of the labels `labels`."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], tallies: Mapping[tuple[str, ...], Tally]
    ) -> None:
        self._name, self._text, self._labels, self._tallies = name, text, labels, tallies

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, tally in self._tallies.items():
            family.add_metric(list(values), buckets=tally.buckets(), sum_value=tally.sum)
        yield family
