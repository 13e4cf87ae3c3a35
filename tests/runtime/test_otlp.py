"""Spans at a collector."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from structlog.testing import capture_logs

from runtime.otlp_collector import collector
from xpod_runtime import otlp
from xpod_runtime import span_names as names
from xpod_runtime.config import ServiceConfig
from xpod_runtime.testing import LIMIT
from xpod_runtime.trace_context import TraceContext
from xpod_runtime.tracing import Tracer

CALLER = TraceContext("a" * 32, "b" * 16, sampled=True)
CONFIG = ServiceConfig(id="decode-0", pod="test")


def values(span: Span) -> dict[str, Any]:
    found = {}
    for attribute in span.attributes:
        kind = attribute.value.WhichOneof("value")
        value = getattr(attribute.value, kind)
        found[attribute.key] = (
            [each.string_value for each in value.values] if kind == "array_value" else value
        )
    return found


def test_what_ends_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = Tracer(10)
    with collector() as (url, came):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        with otlp.exporting(tracer, CONFIG, {"OTEL_EXPORTER_OTLP_ENDPOINT": url}):
            root = tracer.root(names.REQUEST, CALLER, 0.0)
            root.set({"gen_ai.response.finish_reasons": "stop,length"}, session="s1", tenant="t")
            tracer.begin(names.ATTEMPT, root.context, worker="decode-0").end("decode-0 is down")
            root.end()
            tracer.begin(names.SESSION, CALLER._replace(sampled=False)).end()
        assert tracer.export is None
        request = came.get(timeout=LIMIT)
        assert came.empty()
    [resource] = request.resource_spans
    told = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert told["service.name"] == "xpod-member"
    assert (told["service.instance.id"], told["service.namespace"]) == ("decode-0", "test")
    spans = {span.name: span for span in resource.scope_spans[0].spans}
    assert spans.keys() == {"request", "attempt"}
    first, second = spans["request"], spans["attempt"]
    assert {span.trace_id.hex() for span in spans.values()} == {CALLER.trace}
    assert (first.parent_span_id.hex(), second.parent_span_id) == (CALLER.span, first.span_id)
    assert (first.kind, second.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    assert values(first) == {"gen_ai.response.finish_reasons": ["stop", "length"], "xpod.session": "s1"}
    assert values(second) == {"xpod.worker": "decode-0"}
    assert (second.status.code, second.status.message) == (2, "decode-0 is down")
    assert first.start_time_unix_nano <= second.start_time_unix_nano <= second.end_time_unix_nano


def test_a_collector_that_is_not_there_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "CLOSE_SECONDS", 0.05)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    tracer = Tracer(10)
    with otlp.exporting(tracer, CONFIG, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}):
        tracer.begin(names.SESSION, CALLER).end()
    assert len(tracer.find([CALLER.trace])) == 1


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_nobody_asked_for_it(environ: dict[str, str]) -> None:
    tracer = Tracer(10)
    with otlp.exporting(tracer, CONFIG, environ):
        assert tracer.export is None


def test_the_sdk_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    for name in [each for each in sys.modules if each.startswith("opentelemetry.")]:
        monkeypatch.delitem(sys.modules, name)
    tracer = Tracer(10)
    environ = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://h:1/v1/traces"}
    with capture_logs() as logs, otlp.exporting(tracer, CONFIG, environ):
        assert tracer.export is None
    [line] = logs
    assert (line["log_level"], "xpod's extra [otel]" in line["event"]) == ("error", True)
