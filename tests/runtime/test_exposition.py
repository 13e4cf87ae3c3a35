"""A process's own /metrics, over HTTP."""

from __future__ import annotations

import socket
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from xpod_runtime.exposition import NOWHERE, MetricsPortTaken, exposed, metrics_url
from xpod_runtime.tally import Tally, TallyCollector

HERE = "127.0.0.1"


def test_what_is_counted_is_read_from_outside_until_the_end() -> None:
    registry = CollectorRegistry()
    counter = Counter("meals", "Meals", registry=registry)
    with exposed(registry, HERE, 0) as url:
        counter.inc(3)
        with urllib.request.urlopen(url, timeout=5) as answer:
            assert b"meals_total 3.0" in answer.read()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=5)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server((HERE, 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(MetricsPortTaken, match=f"{HERE}:{port}"),
            exposed(CollectorRegistry(), HERE, port),
        ):
            pass


def test_nowhere_is_nowhere() -> None:
    with exposed(CollectorRegistry(), HERE, NOWHERE) as url:
        assert not url


def test_who_listens_everywhere_is_called_by_its_name() -> None:
    assert metrics_url("0.0.0.0", 9400) == f"http://{socket.gethostname()}:9400/metrics"
    assert metrics_url("::1", 9400) == "http://[::1]:9400/metrics"


def test_a_tally_is_a_histogram() -> None:
    tally, registry = Tally((0.1, 1.0)), CollectorRegistry()
    registry.register(TallyCollector("wait_seconds", "Waits", ("who",), {("me",): tally}))
    for value in (0.05, 0.1, 0.5, 7.0):
        tally.note(value)
    [family] = text_string_to_metric_families(generate_latest(registry).decode())
    assert family.type == "histogram"
    found = {sample.name + sample.labels.get("le", ""): sample.value for sample in family.samples}
    assert found == {
        "wait_seconds_bucket0.1": 2, "wait_seconds_bucket1.0": 3, "wait_seconds_bucket+Inf": 4,
        "wait_seconds_count": 4, "wait_seconds_sum": pytest.approx(7.65),
    }  # fmt: skip
