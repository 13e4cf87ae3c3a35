"""How often each expert was asked for: the pod's heat map.

Knows: counts. Does not know: who holds what. Counting runs on the computing thread, scrapes on others.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class Heat(Collector):
    """`pairs` `[layers, experts]` int64: pairs of a token and an expert that were computed here since the start."""

    def __init__(self, layers: int, experts: int) -> None:
        self.pairs: npt.NDArray[np.int64] = np.zeros((layers, experts), np.int64)

    def count(self, layer: int, expert_of: npt.NDArray[np.int32]) -> None:
        """A call for these experts `[P]` of a layer was answered."""
        self.pairs[layer] += np.bincount(expert_of, minlength=self.pairs.shape[1])

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "xpod_expert_pairs",
            "Pairs of a token and an expert that a shard computed",
            labels=["layer", "expert"],
        )
        for layer, expert in np.argwhere(self.pairs):
            family.add_metric([str(layer), str(expert)], float(self.pairs[layer, expert]))
        yield family
