"""`traceparent` in and out, and what a request tells of itself."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from router.api_fakes import CHAT, COMPLETIONS, HI, ByteText, FakeEngine, says
from xpod.router.api import ApiSettings, make_app
from xpod.router.api.engine_protocol import Overloaded, SessionError
from xpod.router.api.request_trace import Sampling
from xpod_proto import ReadTrace, SpanRecord
from xpod_runtime.trace_context import HEADER, TraceContext
from xpod_runtime.tracing import Tracer

CALLER = TraceContext("a" * 32, "b" * 16, sampled=True)
PROMPT = {"prompt": "hi", "max_tokens": 5}
KEYS = {"authorization": "Bearer one"}


class FakeTraces:
    """Knows one request, of one tenant."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def find(self, request: str, tenant: str) -> dict[str, Any] | None:
        self.asked.append((request, tenant))
        return {"spans": []} if request == "s1" else None

    async def newest(self, most: int, tenant: str) -> list[dict[str, Any]]:
        self.asked.append((str(most), tenant))
        return []


class Served:
    """A router's HTTP face with a tracer of its own."""

    def __init__(self, *script: object, fraction: float = 0.0, most: int = 100, **settings: Any) -> None:
        self.tracer, self.traces = Tracer(most), FakeTraces()
        self.engine = FakeEngine(*(script or says("ok")))
        app = make_app(
            self.engine,
            ByteText(),
            ApiSettings(version="1", **settings),
            sampling=Sampling(self.tracer, fraction),
            traces=self.traces,
        )
        self._transport = httpx.ASGITransport(app)

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        async with httpx.AsyncClient(transport=self._transport, base_url="http://router") as http:
            return await http.request(method, path, **more)

    def requests(self) -> list[SpanRecord]:
        return self.tracer.answer(ReadTrace("x", name="request", most=100))


async def test_a_request_goes_on_with_the_trace_that_it_came_with() -> None:
    served = Served()
    answer = await served.ask("POST", COMPLETIONS, json=PROMPT, headers={HEADER: CALLER.header})
    returned = TraceContext.parse(answer.headers[HEADER])
    [span] = served.requests()
    assert returned == CALLER._replace(span=span.span)
    assert (span.trace, span.parent, span.sampled, span.error) == (CALLER.trace, CALLER.span, True, "")
    assert [each.name for each in served.tracer.find([CALLER.trace])] == ["prepare", "request"]


@pytest.mark.parametrize("header", ["", "nonsense", CALLER.header + "-more"])
@pytest.mark.parametrize(("fraction", "sampled"), [(0.0, False), (1.0, True)])
async def test_one_that_comes_without_has_one_of_its_own(header: str, fraction: float, sampled: bool) -> None:
    served = Served(fraction=fraction)
    answer = await served.ask("POST", COMPLETIONS, json=PROMPT, headers={HEADER: header} if header else {})
    returned = TraceContext.parse(answer.headers[HEADER])
    [span] = served.requests()
    assert returned == TraceContext(span.trace, span.span, sampled)
    assert (span.parent, span.trace == CALLER.trace) == ("", False)


@pytest.mark.parametrize(
    ("path", "body", "operation", "prefix"),
    [(COMPLETIONS, PROMPT, "text_completion", "cmpl-"), (CHAT, HI, "chat", "chatcmpl-")],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_it_tells_what_opentelemetry_has_names_for(
    path: str, body: dict[str, Any], operation: str, prefix: str, stream: bool
) -> None:
    served = Served()
    await served.ask("POST", path, json=body | {"stream": stream, "n": 2})
    [span] = served.requests()
    told = dict(span.attributes)
    duration = told.pop("gen_ai.server.request.duration")
    first = told.pop("gen_ai.server.time_to_first_token")
    gap = told.pop("gen_ai.server.time_per_output_token")
    assert isinstance(duration, float)
    assert isinstance(first, float)
    assert isinstance(gap, float)
    assert 0 < first <= duration <= (span.end - span.start) / 1e9
    assert 0 < gap < duration
    assert told.pop("gen_ai.usage.input_tokens") == len(served.engine.opened[0][0])
    assert told == {
        "url.path": path,
        "http.response.status_code": 200,
        "gen_ai.provider.name": "xpod",
        "gen_ai.operation.name": operation,
        "gen_ai.request.model": "fake",
        "gen_ai.response.id": f"{prefix}s0",
        "gen_ai.response.finish_reasons": "stop,stop",
        "gen_ai.usage.output_tokens": 6,
        "session": "s0",
        "choices": 2,
        "recoveries": 2,
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_tells_the_same(stream: bool) -> None:
    served = Served()
    answer = await served.ask("POST", "/v1/responses", json={"input": "hi", "stream": stream, "store": False})
    assert answer.status_code == 200, answer.text
    [span] = served.requests()
    told = span.attributes
    assert str(told["gen_ai.response.id"]).startswith("resp_")
    assert (told["gen_ai.operation.name"], told["gen_ai.usage.output_tokens"]) == ("chat", 3)
    assert "gen_ai.server.time_to_first_token" in told
    assert [each.name for each in served.tracer.find([span.trace])] == ["prepare", "request"]


@pytest.mark.parametrize(
    ("failure", "status", "told"),
    [
        (RuntimeError("oops"), 500, "RuntimeError: oops"),
        (SessionError("no_worker", "nobody is there"), 503, "HTTP 503"),
    ],
)
async def test_a_failure_is_told(failure: Exception, status: int, told: str) -> None:
    served = Served(failure)
    answer = await served.ask("POST", COMPLETIONS, json=PROMPT)
    [span] = served.requests()
    assert (answer.status_code, span.error) == (status, told)


async def test_what_opens_no_session_leaves_nothing() -> None:
    served = Served(api_key="key")
    served.engine.refusal = Overloaded(1.0)
    for headers in ({}, {"authorization": "Bearer key"}):
        await served.ask("POST", COMPLETIONS, json=PROMPT, headers=headers | {HEADER: CALLER.header})
        await served.ask("POST", COMPLETIONS, json={"prompt": "hi", "n": 0}, headers=headers)
        await served.ask("GET", "/v1/models", headers=headers)
        await served.ask("POST", "/tokenize", json={"prompt": "x"}, headers=headers)
    assert served.requests() == []
    assert served.tracer.find([CALLER.trace]) == []


async def test_the_gate_s_refusals_have_no_trace() -> None:
    answer = await Served(api_key="key").ask("POST", COMPLETIONS, json=PROMPT)
    assert (answer.status_code, HEADER in answer.headers) == (401, False)


async def test_a_router_that_keeps_no_spans_says_nothing_of_traces() -> None:
    answer = await Served(most=0).ask("POST", COMPLETIONS, json=PROMPT, headers={HEADER: CALLER.header})
    assert (answer.status_code, HEADER in answer.headers) == (200, False)


async def test_a_trace_is_asked_for() -> None:
    served = Served()
    assert (await served.ask("GET", "/xpod/trace/s1")).json() == {"spans": []}
    missing = await served.ask("GET", "/xpod/trace/s2")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "trace_not_found")
    assert (await served.ask("GET", "/xpod/traces")).json() == {"requests": []}
    assert (await served.ask("GET", "/xpod/traces?most=0")).status_code == 400
    assert served.traces.asked == [("s1", ""), ("s2", ""), ("20", "")]


async def test_tenants_ask_for_their_own() -> None:
    served = Served(api_key="one,two")
    assert (await served.ask("GET", "/xpod/trace/s1")).status_code == 401
    for key in ("one", "two", "one"):
        await served.ask("GET", "/xpod/trace/s1", headers={"authorization": f"Bearer {key}"})
        await served.ask("POST", COMPLETIONS, json=PROMPT, headers={"authorization": f"Bearer {key}"})
    first, second, third = (tenant for _, tenant in served.traces.asked)
    assert first == third != second
    assert [span.attributes["tenant"] for span in served.requests()] == [first, second, third]
    assert "one" not in first
