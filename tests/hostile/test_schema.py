"""/openapi.json is true: what it allows and what it forbids is tried against the API, and answers are as it says."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.specs.openapi import checks

from router.api_fakes import CHAT, COMPLETIONS, HI, USAGE, FakeEngine, app_of, says

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


STREAMS: list[dict[str, Any]] = [
    {},
    USAGE | {"return_token_ids": True},
    {"logprobs": True, "top_logprobs": 2},
    {"n": 2},
]


@pytest.mark.parametrize("extra", STREAMS)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_each_event_is_as_the_schema_says(path: str, extra: dict[str, Any]) -> None:
    told = await openapi()
    stream = told["paths"][path]["post"]["responses"]["200"]["content"]["text/event-stream"]["schema"]
    if path == COMPLETIONS and "logprobs" in extra:
        extra = {"logprobs": 2}
    body = (HI if path == CHAT else {"prompt": "x"}) | {"stream": True} | extra
    transport = httpx.ASGITransport(app())
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        answer = await http.post(path, json=body)
    frames = [line.removeprefix("data: ") for line in answer.text.split("\n") if line.startswith("data: ")]
    assert frames.pop() == "[DONE]"
    assert frames
    whole = {**stream["x-event-schema"], "components": told["components"]}
    for frame in frames:
        jsonschema_rs.Draft202012Validator(whole).validate(json.loads(frame))
