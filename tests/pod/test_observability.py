"""The board and the documentation name what members measure, and nothing else; compose's profile is what they say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from xpod.attention.measured import Measured
from xpod.common.told_metrics import TOLD, VERDICTS, Told
from xpod.common.view import PodView
from xpod.expert.heat import Heat
from xpod.router.api.metrics import Metrics
from xpod.router.connections import Connections
from xpod.router.counters import Counters
from xpod.router.pod_metrics import PodMetrics
from xpod_policy.membership import Member
from xpod_runtime.local_bus import LocalBus, LocalFabric

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "services" / "observability"
NAME = re.compile(r"\b(?:xpod_|vllm:|process_)[a-z0-9_]+")
HISTOGRAM = ("_bucket", "_sum", "_count")


def names(metrics: Iterable[Metric]) -> set[str]:
    """As they are asked for."""
    found = set()
    for metric in metrics:
        if metric.type == "histogram":
            found |= {metric.name, *(metric.name + suffix for suffix in HISTOGRAM)}
        else:
            found.add(f"{metric.name}_total" if metric.type == "counter" else metric.name)
    return found


def told(told: Told) -> str:
    return f"xpod_{told.name}" + ("_total" if told.type == "counter" else "")


def registry_of_all() -> CollectorRegistry:
    """What members measure, but for what heartbeats tell."""
    registry = CollectorRegistry()
    Metrics("m", registry)
    Counters(registry)
    Connections(1).registered(registry)
    Measured(registry)
    heat = Heat(1, 1)
    heat.pairs[0, 0] = 1
    registry.register(heat)
    view = PodView(LocalBus(LocalFabric(), "r"), "p")
    view.table.members["expert-0"] = Member("expert-0", "expert", "i", 1, "h", "", "up", 0.0, 0.0, {}, {})
    registry.register(PodMetrics(view, "m"))
    return registry


def exported() -> set[str]:
    """What all members together have."""
    registry = registry_of_all()
    of_heartbeats = {told(each) for kind in TOLD.values() for each in (*kind, *VERDICTS)}
    return names(registry.collect()) | of_heartbeats | {"xpod_member"}


def board() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((SERVICES / "grafana" / "xpod.json").read_text())
    return loaded


async def test_the_board_asks_for_what_there_is() -> None:
    asked = {
        name
        for panel in board()["panels"]
        for target in panel["targets"]
        for name in NAME.findall(target["expr"])
    }
    assert len(asked) > 20
    assert asked - exported() - {"process_resident_memory_bytes"} == set()


async def test_no_metric_has_a_label_that_targets_have() -> None:
    """Prometheus would rename it, and whoever asks for it gets the target's."""
    samples = [sample for metric in registry_of_all().collect() for sample in metric.samples]
    assert {"xpod_members", "xpod_expert_pairs_total"} <= {sample.name for sample in samples}
    assert [
        sample.name for sample in samples if sample.labels.keys() & {"member", "kind", "instance", "job"}
    ] == []
    assert all(told.label not in {"member", "kind"} for kind in TOLD.values() for told in kind)


def test_the_panels_lie_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board()["panels"]:
        grid = panel["gridPos"]
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert grid["x"] + grid["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


async def test_the_documentation_names_every_metric_and_no_other() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    documented = {name for name in NAME.findall(text) if name not in {"process_", "vllm:"}}
    parts = {name for name in exported() if name.endswith(HISTOGRAM)}
    assert documented == exported() - parts


def test_prometheus_asks_the_routers_of_compose_and_the_ports_are_this_machines_alone() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    [job] = yaml.safe_load((SERVICES / "prometheus.yml").read_text())["scrape_configs"]
    asked = {each["url"].split("/")[2].split(":")[0] for each in job["http_sd_configs"]}
    assert asked == {name for name in services if name.startswith("router-")}
    for name, profile in (
        ("prometheus", "observability"),
        ("grafana", "observability"),
        ("jaeger", "tracing"),
    ):
        assert services[name]["profiles"] == [profile]
        assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])


def test_what_compose_mounts_is_there() -> None:
    configs = yaml.safe_load((ROOT / "compose.yaml").read_text())["configs"]
    assert all((ROOT / each["file"]).is_file() for each in configs.values() if "file" in each)
