"""What MemPool nodes tell of themselves, as Prometheus reads it from the router.

Knows: the keys of a node's heartbeat. Does not know: how a node counts. A node that is down has no series, and neither
has what a node does not tell.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from xpod.common.view import PodView
from xpod_policy.membership import Member
from xpod_policy.told import number

PREFIX = "xpod_mempool"
GAUGES = {
    "blocks": ("blocks", "Blocks that a MemPool node has"),
    "lag_blocks": ("lag", "Blocks that a MemPool node should have and waits for"),
}
TIERS = {
    "bytes": ({"memory": "bytes", "disk": "disk_bytes"}, "Bytes of blocks in a MemPool node"),
    "budget_bytes": (
        {"memory": "budget", "disk": "disk_budget"},
        "Bytes that a MemPool node may have",
    ),
}
COUNTERS = {
    "hits": "Blocks asked for and found",
    "misses": "Blocks asked for and not found",
    "disk_hits": "Blocks found on disk",
    "evictions": "Blocks dropped for want of room",
    "inserted": "Blocks that became visible",
    "received_bytes": "Bytes of blocks taken in",
    "sent_bytes": "Bytes of blocks given out",
    "transfers": "Blocks sent to other nodes",
    "copied": "Blocks copied to nodes that should have them",
}


class PoolMetrics(Collector):
    """Reads the view when it is scraped."""

    def __init__(self, view: PodView) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        nodes = [member for member in self._view.table.of_kind("mempool") if member.alive]
        for name, (key, text) in GAUGES.items():
            yield _filled(GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=["node"]), nodes, {(): key})
        for name, (keys, text) in TIERS.items():
            gauge = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=["node", "tier"])
            yield _filled(gauge, nodes, {(tier,): key for tier, key in keys.items()})
        for key, text in COUNTERS.items():
            yield _filled(CounterMetricFamily(f"{PREFIX}_{key}", text, labels=["node"]), nodes, {(): key})


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily, nodes: list[Member], keys: dict[tuple[str, ...], str]
) -> Metric:
    """One series for each node and each key that it tells; `keys` by the labels besides the node."""
    for node in nodes:
        for labels, key in keys.items():
            value = number(node, key)
            if value is not None:
                family.add_metric([node.name, *labels], value)
    return family
