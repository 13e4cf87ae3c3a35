"""A request as the first span of its trace, and `traceparent` in and out.

Knows: HTTP's side of a request, and OpenTelemetry's names for what it tells (gen_ai.*, semantic conventions 1.38).
Does not know: what is done for it, or who reads that.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xpod.router.api.affinity import tenant_name
from xpod.router.api.choice import Choice
from xpod.router.api.metrics import Meter
from xpod_proto.messages import Value
from xpod_runtime import span_names as names
from xpod_runtime.trace_context import HEADER, TraceContext, within
from xpod_runtime.tracing import NOTHING, PRIVATE, LiveSpan, Tracer

TRACED = "/v1/"
"""What generates lies below; a request that opens no session is not told of."""
OPERATIONS = {"/v1/chat/completions": "chat", "/v1/completions": "text_completion", "/v1/responses": "chat"}


@dataclass(frozen=True, slots=True)
class Sampling:
    """Who keeps the spans, and which part of all requests is traced in detail."""

    tracer: Tracer
    fraction: float


class RequestTrace:
    """One request's span. It is told only once there are sessions."""

    def __init__(self, span: LiveSpan, tracer: Tracer | None = None) -> None:
        self._span, self._tracer = span, tracer
        self._choices: Sequence[Choice] = ()
        self._prepared = 0
        """When its prompts were tokens, in ns from its arrival."""

    def prepared(self) -> None:
        """It was found valid, and its prompts are tokens."""
        if self._span.live:
            self._prepared = self._span.elapsed

    def opened(self, choices: Sequence[Choice], model: str, prompt_tokens: int) -> None:
        """There are sessions now, if there are any."""
        if not choices or not self._span.live:
            return
        self._choices, start = choices, self._span.start
        if self._tracer is not None:
            self._tracer.note(names.PREPARE, self._span.context, start, start + self._prepared)
        self._span.set(
            {"gen_ai.request.model": model, "gen_ai.usage.input_tokens": prompt_tokens},
            session=choices[0].session.id,
            choices=len(choices),
        )

    def named(self, id: str) -> None:
        """As its client knows it."""
        self._span.set({"gen_ai.response.id": id})

    def end(self, error: str) -> None:
        """The response is complete, or will not be."""
        choices, self._choices = self._choices, ()
        if not choices:
            self._span.drop()
            return
        if all(choice.meter.reason for choice in choices):  # else they go on in the background
            self._span.set(_figures([choice.meter for choice in choices]))
        self._span.end(error, recoveries=sum(choice.session.recoveries for choice in choices))


_request: ContextVar[RequestTrace | None] = ContextVar("request", default=None)
_NOBODY = RequestTrace(NOTHING)


def request_trace() -> RequestTrace:
    """Of the request that this task answers."""
    return _request.get() or _NOBODY


class Traced:
    """Inside of the gate: what that refuses has no trace."""

    def __init__(self, app: ASGIApp, sampling: Sampling) -> None:
        self._app, self._sampling = app, sampling

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].startswith(TRACED):
            await self._app(scope, receive, send)
            return
        incoming = TraceContext.parse(Headers(scope=scope).get(HEADER, ""))
        span = self._sampling.tracer.root(names.REQUEST, incoming, self._sampling.fraction)
        span.set(_attributes(scope))
        request = RequestTrace(span, self._sampling.tracer)
        status = 0

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                if span.context is not None:
                    MutableHeaders(scope=message)[HEADER] = span.context.header
            await send(message)

        token = _request.set(request)
        error = "cancelled"
        try:
            with within(span.context):
                await self._app(scope, receive, tagged)
            span.set({"http.response.status_code": status})
            error = f"HTTP {status}" if status >= 400 else ""
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
            raise
        finally:
            _request.reset(token)
            request.end(error)


def _attributes(scope: Scope) -> dict[str, Value]:
    path = scope["path"]
    told: dict[str, Value] = {"url.path": path, "gen_ai.provider.name": "xpod"}
    if path in OPERATIONS:
        told["gen_ai.operation.name"] = OPERATIONS[path]
    if tenant := tenant_name(scope):
        told[PRIVATE] = tenant
    return told


def _figures(meters: Sequence[Meter]) -> dict[str, Value]:
    """Times in seconds: to the first token of any choice, and of a choice on average between two."""
    told: dict[str, Value] = {
        "gen_ai.usage.output_tokens": sum(meter.tokens for meter in meters),
        "gen_ai.response.finish_reasons": ",".join(meter.reason for meter in meters),
        "gen_ai.server.request.duration": max(meter.whole for meter in meters),
    }
    firsts = [meter.first for meter in meters if meter.first is not None]
    if firsts:
        told["gen_ai.server.time_to_first_token"] = min(firsts)
    gaps = [
        (meter.whole - meter.first) / (meter.tokens - 1)
        for meter in meters
        if meter.first is not None and meter.tokens > 1
    ]
    if gaps:
        told["gen_ai.server.time_per_output_token"] = sum(gaps) / len(gaps)
    return told
