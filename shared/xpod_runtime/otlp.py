"""Spans to a collector, by OpenTelemetry's own SDK, where the standard variables name one.

Knows: how xpod's spans become OpenTelemetry's. The SDK reads the variables (OTEL_EXPORTER_OTLP_*, OTEL_BSP_*,
OTEL_RESOURCE_ATTRIBUTES), batches, sends from a thread of its own, and drops what a collector does not take.
Does not know: what a span is about. The SDK is loaded by processes that export, and by no others.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

from xpod_proto import SpanRecord
from xpod_runtime import span_names as names
from xpod_runtime.config import ServiceConfig
from xpod_runtime.tracing import PRIVATE, Tracer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PACKAGE = "opentelemetry.exporter.otlp.proto.http"
SERVERS = frozenset({names.REQUEST, names.PREFILL, names.DECODE, names.EXPERT})
CLIENTS = frozenset({names.PLACE, names.ATTEMPT})
LISTS = frozenset({"gen_ai.response.finish_reasons"})
"""Attributes that OpenTelemetry has as lists; here, texts with commas."""
CLOSE_SECONDS = 1.0
"""A process that ends waits so long for a collector that does not answer."""
log = structlog.get_logger(__name__)


@contextmanager
def exporting(tracer: Tracer, config: ServiceConfig, environ: Mapping[str, str]) -> Iterator[None]:
    """While it lasts, the tracer's spans go to the collector that `environ` names; what is left at the end is sent."""
    wanted = any(environ.get(name) for name in ENDPOINTS)
    if not wanted or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield
        return
    if not _installed():
        log.error(
            "traces are not exported: OpenTelemetry's SDK is missing, which xpod's extra [otel] installs"
        )
        yield
        return
    export, close = _exporter(config)
    tracer.export = export
    try:
        yield
    finally:
        tracer.export = None
        close()


def _installed() -> bool:
    try:
        return importlib.util.find_spec(PACKAGE) is not None
    except ModuleNotFoundError:
        return False


def _exporter(config: ServiceConfig) -> tuple[Callable[[SpanRecord], None], Callable[[], None]]:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    processor = BatchSpanProcessor(OTLPSpanExporter())
    resource = Resource.create(
        {
            "service.name": f"xpod-{config.kind}",
            "service.namespace": config.pod,
            "service.instance.id": config.id,
        }
    )

    def export(span: SpanRecord) -> None:
        processor.on_end(readable(span, resource))

    def close() -> None:
        ending = threading.Thread(target=processor.shutdown, daemon=True)
        ending.start()
        ending.join(CLOSE_SECONDS)

    return export, close


def readable(span: SpanRecord, resource: Any) -> ReadableSpan:
    """The span as the SDK has it."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Status, StatusCode

    return ReadableSpan(
        name=span.name,
        context=_context(span, span.span),
        parent=_context(span, span.parent) if span.parent else None,
        resource=resource,
        attributes=dict(_attribute(*item) for item in span.attributes.items() if item[0] != PRIVATE),
        kind=_kind(span.name),
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
        start_time=span.start,
        end_time=span.end,
    )


def _context(span: SpanRecord, id: str) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    flags = TraceFlags(TraceFlags.SAMPLED if span.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(span.trace, 16), int(id, 16), is_remote=id == span.parent, trace_flags=flags)


def _kind(name: str) -> Any:
    from opentelemetry.trace import SpanKind

    if name in SERVERS or name.startswith("pool."):
        return SpanKind.SERVER
    return SpanKind.CLIENT if name in CLIENTS else SpanKind.INTERNAL


def _attribute(name: str, value: Any) -> tuple[str, Any]:
    """OpenTelemetry's own names have dots; the others are xpod's."""
    if name in LISTS:
        return name, tuple(str(value).split(","))
    return (name if "." in name else f"xpod.{name}"), value
