"""What a router sees of its pod, and what members tell of themselves, as Prometheus reads it."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from router.pod_fakes import POD, FakeMember, seen
from xpod.common.told_metrics import TOLD, ToldMetrics
from xpod.common.view import PodView
from xpod.router.pod_metrics import PodMetrics
from xpod_proto.messages import Value
from xpod_proto.subjects import KINDS
from xpod_runtime.local_bus import LocalBus, LocalFabric
from xpod_runtime.testing import LIMIT

MEMPOOL: dict[str, Value] = {
    **{"blocks": 3, "bytes": 30, "budget": 100, "disk_bytes": 7, "disk_budget": 70, "lag": 2},
    **{"hits": 11, "misses": 12, "disk_hits": 13, "evictions": 14, "inserted": 15, "received_bytes": 16},
    **{"sent_bytes": 17, "transfers": 18, "copied": 19, "suspected": 1, "invariant_failures": 0},
}
# what a member of a kind tells, and what is read
SHOWN: dict[str, tuple[str, dict[str, Value], dict[str, float]]] = {
    "mempool": (
        "mempool",
        MEMPOOL,
        {
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
            "xpod_mempool_invariant_failures_total": 0,
            "xpod_suspected_total": 1,
        },
    ),
    "a worker": (
        "decode",
        {
            "sequences": 2,
            "blocks_free": 5,
            "blocks_reserved": 4,
            "hedges": 1,
            "busy_seconds": 1.5,
            "other": "x",
        },
        {
            "xpod_sequences": 2,
            "xpod_kv_blocks free": 5,
            "xpod_kv_blocks reserved": 4,
            "xpod_hedges_total": 1,
            "xpod_busy_seconds_total": 1.5,
        },
    ),
    "a supervisor": (
        "supervisor",
        {"leader": True, "placement_epoch": 7},
        {"xpod_leader": 1, "xpod_placement_epoch": 7},
    ),
    "before its first heartbeat": ("expert", {}, {}),
}


def scraped(registry: CollectorRegistry, *labels: str) -> dict[str, float]:
    """Samples by name, and the values of these labels."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        " ".join(
            [sample.name, *(sample.labels[label] for label in labels if label in sample.labels)]
        ): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.mark.parametrize("case", SHOWN)
def test_what_members_tell_is_read_from_them(case: str) -> None:
    kind, load, shown = SHOWN[case]
    registry = CollectorRegistry()
    registry.register(ToldMetrics(kind, lambda: load, {"pod": "p", "member": "m-0", "kind": kind}))
    found = scraped(registry, "tier", "state", "member")
    assert found.pop("xpod_member m-0") == 1
    assert found == shown


def test_every_kind_tells_something_under_names_of_its_own() -> None:
    assert set(TOLD) == {kind for kind in KINDS if kind != "nats"}
    for kind, told in TOLD.items():
        names = [each.name for each in told]
        assert len(names) == len(set(names)), kind


async def loaded(view: PodView, member: FakeMember, load: dict[str, Value]) -> None:
    await member.open()
    await member.heartbeat(**load)
    await seen(view, member.name)
    async with asyncio.timeout(LIMIT):
        while view.table.members[member.name].load != load:
            await view.changed(0.05)


async def test_a_router_tells_who_is_there_and_how_full_decode_workers_are() -> None:
    fabric, registry = LocalFabric(), CollectorRegistry()
    view = PodView(LocalBus(fabric, "router-0"), POD)
    await view.start()
    registry.register(PodMetrics(view, "m"))
    assert scraped(registry)["vllm:kv_cache_usage_perc"] == 0
    await loaded(view, FakeMember(fabric, "decode", "decode-0"), {"blocks_free": 60, "blocks_reserved": 0})
    await loaded(view, FakeMember(fabric, "decode", "decode-1"), {"blocks_free": 10, "blocks_reserved": 30})
    left = FakeMember(fabric, "expert", "expert-0")
    await loaded(view, left, {"held": 1})
    await left.leave()
    await seen(view, "expert-0", "down")
    found = scraped(registry, "service", "state")
    assert found["vllm:kv_cache_usage_perc"] == pytest.approx(0.3)
    assert found["xpod_members decode up"] == 2
    assert found["xpod_members expert down"] == 1
