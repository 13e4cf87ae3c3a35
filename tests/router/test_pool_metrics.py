"""What MemPool nodes tell, as Prometheus reads it."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from router.pod_fakes import POD, FakeMember, seen
from xpod.common.view import PodView
from xpod.router.pool_metrics import PoolMetrics
from xpod_proto.messages import Value
from xpod_runtime.local_bus import LocalBus, LocalFabric
from xpod_runtime.testing import LIMIT

TOLD: dict[str, Value] = {
    **{"blocks": 3, "bytes": 30, "budget": 100, "disk_bytes": 7, "disk_budget": 70, "lag": 2},
    **{"hits": 11, "misses": 12, "disk_hits": 13, "evictions": 14, "inserted": 15, "received_bytes": 16},
    **{"sent_bytes": 17, "transfers": 18, "copied": 19, "suspected": 1},
}
SHOWN = {
    "xpod_mempool_blocks": 3,
    "xpod_mempool_bytes memory": 30,
    "xpod_mempool_bytes disk": 7,
    "xpod_mempool_budget_bytes memory": 100,
    "xpod_mempool_budget_bytes disk": 70,
    "xpod_mempool_lag_blocks": 2,
    "xpod_mempool_hits_total": 11,
    "xpod_mempool_misses_total": 12,
    "xpod_mempool_disk_hits_total": 13,
    "xpod_mempool_evictions_total": 14,
    "xpod_mempool_inserted_total": 15,
    "xpod_mempool_received_bytes_total": 16,
    "xpod_mempool_sent_bytes_total": 17,
    "xpod_mempool_transfers_total": 18,
    "xpod_mempool_copied_total": 19,
}


def scraped(registry: CollectorRegistry, node: str) -> dict[str, float]:
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        " ".join([sample.name, *sample.labels.get("tier", "").split()]): sample.value
        for family in families
        for sample in family.samples
        if sample.labels["node"] == node
    }


async def loaded(view: PodView, member: FakeMember, load: dict[str, Value]) -> None:
    await member.open()
    await member.heartbeat(**load)
    await seen(view, member.name)
    async with asyncio.timeout(LIMIT):
        while view.table.members[member.name].load != load:
            await view.changed(0.05)


@pytest.mark.parametrize(
    ("load", "shown"),
    [(TOLD, SHOWN), ({"blocks": 0}, {"xpod_mempool_blocks": 0}), ({}, {}), ({"bytes": "many"}, {})],
)
async def test_what_a_node_tells_is_shown(load: dict[str, Value], shown: dict[str, float]) -> None:
    fabric, registry = LocalFabric(), CollectorRegistry()
    bus = LocalBus(fabric, "router-0")
    view = PodView(bus, POD)
    registry.register(PoolMetrics(view))
    await view.start()
    node, worker = FakeMember(fabric, "mempool", "mempool-0"), FakeMember(fabric, "decode", "decode-0")
    await loaded(view, node, load)
    await loaded(view, worker, TOLD)
    assert scraped(registry, "mempool-0") == shown
    assert scraped(registry, "decode-0") == {}
    await node.leave()
    await seen(view, "mempool-0", "down")
    assert scraped(registry, "mempool-0") == {}
    await bus.close()
