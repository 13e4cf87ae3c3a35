"""What a member tells in its heartbeats, as Prometheus reads it from the member itself.

Knows: the keys of each kind's load, and the names that they have as metrics. Does not know: how a member counts. What a
member does not tell has no series. A scrape reads the last heartbeat, so it touches nothing that is at work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from xpod_proto.messages import Value


@dataclass(frozen=True, slots=True)
class Told:
    """A metric `xpod_<name>`, from the key of a load (by the value of its one label, where it has one)."""

    name: str
    text: str
    type: Literal["gauge", "counter"]
    keys: Mapping[str, str]
    label: str = ""


def gauge(name: str, text: str, key: str) -> Told:
    return Told(name, text, "gauge", {"": key})


def counter(name: str, text: str, key: str) -> Told:
    return Told(name, text, "counter", {"": key})


BUSY = counter("busy_seconds", "Seconds that the computing thread computed", "busy_seconds")
VERDICTS = (
    counter("suspected", "Times that this member suspected another one", "suspected"),
    counter(
        "declared_down", "Times that this member saw another one leave or declared it dead", "declared_down"
    ),
)
ATTENTION = (
    BUSY,
    gauge("sequences", "Sequences that a worker has", "sequences"),
    gauge("slots_free", "Sequences that it could take besides", "slots_free"),
    Told(
        "kv_blocks",
        "KV blocks of a worker: free, reserved for its sequences, or kept for prompts to come",
        "gauge",
        {"free": "blocks_free", "reserved": "blocks_reserved", "kept": "blocks_kept"},
        "state",
    ),
    counter("expert_calls", "Calls to expert shards", "calls"),
    counter("hedges", "Calls that were made a second time because the first took long", "hedges"),
)
TOLD: Mapping[str, tuple[Told, ...]] = {
    "router": (gauge("router_sessions", "Sessions that a router follows", "sessions"),),
    "prefill": (
        *ATTENTION,
        gauge("prefill_queued_tokens", "Prompt tokens that wait or are being computed", "queued_tokens"),
        gauge("prefill_queued_seconds", "How long that will take, as estimated", "queued_seconds"),
        gauge("prefill_waiting", "Prompts that wait", "waiting"),
        counter("steps_between", "Steps computed while another one waited for its experts", "steps_between"),
    ),
    "decode": (
        *ATTENTION,
        counter(
            "sessions_reopened", "Sessions that came to a worker again, or without their blocks", "reopened"
        ),
        counter("recomputed_tokens", "Tokens whose KV somebody had computed before", "recomputed"),
        counter("recomputed_far", "Sessions of which more than a block was computed again", "recomputed_far"),
    ),
    "expert": (
        BUSY,
        gauge("experts_held", "Experts, of all layers, that a shard holds", "held"),
        gauge("shard_calls_waiting", "Calls that wait at a shard", "calls_waiting"),
        counter("shard_calls", "Calls that a shard answered", "calls"),
        gauge("placement_epoch", "The placement that a member knows", "placement_epoch"),
    ),
    "mempool": (
        gauge("mempool_blocks", "Blocks that a MemPool node has", "blocks"),
        gauge("mempool_lag_blocks", "Blocks that a MemPool node should have and waits for", "lag"),
        Told(
            "mempool_bytes",
            "Bytes of blocks in a MemPool node",
            "gauge",
            {"memory": "bytes", "disk": "disk_bytes"},
            "tier",
        ),
        Told(
            "mempool_budget_bytes",
            "Bytes that a MemPool node may have",
            "gauge",
            {"memory": "budget", "disk": "disk_budget"},
            "tier",
        ),
        counter("mempool_hits", "Blocks asked for and found", "hits"),
        counter("mempool_misses", "Blocks asked for and not found", "misses"),
        counter("mempool_disk_hits", "Blocks found on disk", "disk_hits"),
        counter("mempool_evictions", "Blocks dropped for want of room", "evictions"),
        counter("mempool_inserted", "Blocks that became visible", "inserted"),
        counter("mempool_received_bytes", "Bytes of blocks taken in", "received_bytes"),
        counter("mempool_sent_bytes", "Bytes of blocks given out", "sent_bytes"),
        counter("mempool_transfers", "Blocks sent to other nodes", "transfers"),
        counter("mempool_copied", "Blocks copied to nodes that should have them", "copied"),
        counter(
            "mempool_invariant_failures",
            "Checks that found a node's books wrong: each is a bug",
            "invariant_failures",
        ),
    ),
    "supervisor": (
        gauge("leader", "1 where a supervisor leads", "leader"),
        gauge("placement_epoch", "The placement that a member knows", "placement_epoch"),
    ),
}


@dataclass(frozen=True, eq=False)
class ToldMetrics(Collector):
    """Reads `load()`, of a member of that kind, when it is scraped."""

    kind: str
    load: Callable[[], Mapping[str, Value]]
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of `xpod_member`, whose value is 1: who this is."""

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("xpod_member", "Who this is", labels=list(self.labels))
        info.add_metric(list(self.labels.values()), 1)
        yield info
        load = self.load()
        for told in (*TOLD.get(self.kind, ()), *VERDICTS):
            values = {label: load[key] for label, key in told.keys.items() if key in load}
            if values:
                yield _family(told, {label: float(value) for label, value in values.items()})


def _family(told: Told, values: Mapping[str, float]) -> Metric:
    make = GaugeMetricFamily if told.type == "gauge" else CounterMetricFamily
    family = make(f"xpod_{told.name}", told.text, labels=[told.label] if told.label else [])
    for label, value in values.items():
        family.add_metric([label] if told.label else [], value)
    return family
