"""What a router sees of its pod, as Prometheus reads it: who is there, and how full the decode workers are.

Knows: the view. Does not know: what members tell of themselves on their own `/metrics`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from xpod.common.view import PodView
from xpod_policy.membership import Member
from xpod_policy.told import number


class PodMetrics(Collector):
    """Reads the view when it is scraped; `model_name` is for the series that vLLM's boards read."""

    def __init__(self, view: PodView, model_name: str) -> None:
        self._view, self._model_name = view, model_name

    def collect(self) -> Iterator[Metric]:
        known = list(self._view.table.members.values())  # at once: whoever scrapes may be another thread
        members = GaugeMetricFamily("xpod_members", "Members of the pod", labels=["service", "state"])
        counts = Counter((member.kind, member.state) for member in known)
        for labels, count in sorted(counts.items()):
            members.add_metric(labels, count)
        yield members
        usage = GaugeMetricFamily(
            "vllm:kv_cache_usage_perc",
            "Part of the decode workers' KV cache that sequences have reserved: 1 is all of it",
            labels=["model_name"],
        )
        usage.add_metric([self._model_name], _kv_usage(known))
        yield usage


def _kv_usage(members: list[Member]) -> float:
    workers = [member for member in members if member.kind == "decode" and member.usable]
    reserved = sum(number(worker, "blocks_reserved") or 0.0 for worker in workers)
    free = sum(number(worker, "blocks_free") or 0.0 for worker in workers)
    return reserved / (reserved + free) if reserved + free else 0.0
