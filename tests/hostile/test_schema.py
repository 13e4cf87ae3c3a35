"""/openapi.json is true: what it allows and what it forbids is tried against the API, and answers are as it says."""

from __future__ import annotations

from functools import cache
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.specs.openapi import checks

from router.api_fakes import CHAT, COMPLETIONS, HI, USAGE, FakeEngine, app_of, says
from router.effects import check_events, conforms

RESPONSES = "/v1/responses"
STREAMED: dict[str, dict[str, Any]] = {CHAT: HI, COMPLETIONS: {"prompt": "x"}, RESPONSES: {"input": "hi"}}
CHECKS: list[CheckFunction] = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]


@cache
def app() -> Any:
    engine = FakeEngine(*says("ok"))
    engine.members = [
        {"id": "router-0", "kind": "router", "state": "up", "detail": {"metrics": "http://h:1/metrics"}}
    ]
    engine.texts = {"router-0": "x 1\n"}
    return app_of(engine, max_choices=8)


schema = schemathesis.openapi.from_asgi("/openapi.json", app())


@schema.parametrize()
@settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_api_is_as_its_schema_says(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS)


async def openapi() -> dict[str, Any]:
    transport = httpx.ASGITransport(app())
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        return dict((await http.get("/openapi.json")).json())


async def test_every_parameter_is_described() -> None:
    told = (await openapi())["components"]["schemas"]
    bodies = [name for name in told if name.endswith("Request")]
    assert len(bodies) >= 4
    bare = {
        f"{body}.{name}"
        for body in bodies
        for name, each in told[body]["properties"].items()
        if not each.get("description")
    }
    assert not bare


STREAMS: list[tuple[str, dict[str, Any]]] = [
    *((path, {}) for path in STREAMED),
    *((path, {"return_token_ids": True}) for path in STREAMED),
    *((path, USAGE | {"n": 2}) for path in (CHAT, COMPLETIONS)),
    (CHAT, {"logprobs": True, "top_logprobs": 2}),
    (COMPLETIONS, {"logprobs": 2}),
    (RESPONSES, {"include": ["message.output_text.logprobs"], "top_logprobs": 2}),
    (RESPONSES, {"background": True}),
    (RESPONSES, {"max_output_tokens": 1}),
]


@pytest.mark.parametrize(("path", "extra"), STREAMS)
async def test_each_event_is_as_the_schema_says(path: str, extra: dict[str, Any]) -> None:
    told = await openapi()
    stream = told["paths"][path]["post"]["responses"]["200"]["content"]["text/event-stream"]["schema"]
    transport = httpx.ASGITransport(app())
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        answer = await http.post(path, json=STREAMED[path] | {"stream": True} | extra)
    check_events(answer.text, stream["x-event-schema"], told)


async def test_what_is_kept_of_a_response_is_told_as_the_schema_says() -> None:
    told = await openapi()
    transport = httpx.ASGITransport(app())

    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        made = await http.post(RESPONSES, json=STREAMED[RESPONSES] | {"background": True})
        id = made.json()["id"]
        for method, path, tail in (
            ("post", "/{response_id}/cancel", "/cancel"),
            ("get", "/{response_id}/input_items", "/input_items"),
            ("get", "/{response_id}", ""),
            ("delete", "/{response_id}", ""),
        ):
            answer = await http.request(method, f"{RESPONSES}/{id}{tail}")
            assert answer.status_code == 200
            operation = told["paths"][f"{RESPONSES}{path}"][method]
            conforms(
                answer.json(), operation["responses"]["200"]["content"]["application/json"]["schema"], told
            )
