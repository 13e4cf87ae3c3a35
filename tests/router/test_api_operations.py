"""Health, readiness, metrics and the rest: what operators and load balancers see."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from router.api_fakes import EOS, FakeEngine, app_of, says
from xpod_runtime.errors import DeadlineExceeded

CHAT = "/v1/chat/completions"


@asynccontextmanager
async def client(engine: FakeEngine, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app_of(engine, **settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        yield http


async def metrics(http: httpx.AsyncClient) -> dict[str, float]:
    """Samples by name and labels; every one of them has the model's name."""
    text = (await http.get("/metrics")).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert {sample.labels["model_name"] for sample in samples} == {"fake"}
    return {s.name + s.labels.get("finished_reason", "") + s.labels.get("le", ""): s.value for s in samples}


async def test_health_and_version() -> None:
    engine = FakeEngine()
    engine.missing = "no decode worker"
    async with client(engine) as http:
        assert (await http.get("/health")).status_code == 200
        assert (await http.get("/version")).json() == {"version": "1.2.3"}
        assert (await http.get("/xpod/status")).json() == engine.status()


async def test_ready() -> None:
    engine = FakeEngine()
    async with client(engine) as http:
        assert (await http.get("/ready")).status_code == 200
        engine.missing = "no decode worker"
        answer = await http.get("/ready")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["message"] == "no decode worker"


async def test_models() -> None:
    async with client(FakeEngine(), served_model_names=("org/one", "two")) as http:
        listed = (await http.get("/v1/models")).json()
        one = await http.get("/v1/models/org/one")
        none = await http.get("/v1/models/three")
    assert [model["id"] for model in listed["data"]] == ["org/one", "two"]
    assert one.json() == listed["data"][0]
    assert one.json()["max_model_len"] == 100
    assert (none.status_code, none.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/v1/nowhere", 404, "not_found"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
    ],
)
async def test_wrong_routes(method: str, path: str, status: int, code: str) -> None:
    async with client(FakeEngine()) as http:
        answer = await http.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert path in answer.json()["error"]["message"]


async def test_request_id() -> None:
    async with client(FakeEngine()) as http:
        given = await http.get("/health", headers={"x-request-id": "abc"})
        refused = await http.post(CHAT, json={}, headers={"x-request-id": "def"})
        made = [(await http.get("/nowhere")).headers["x-request-id"] for _ in range(2)]
    assert given.headers["x-request-id"] == "abc"
    assert refused.headers["x-request-id"] == "def"
    assert made[0] != made[1]


async def test_api_key() -> None:
    async with client(FakeEngine(), api_key="other, secret") as http:
        for path in ("/health", "/ready", "/metrics", "/version", "/load", "/openapi.json"):
            assert (await http.get(path)).status_code == 200
        for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic secret"}):
            answer = await http.get("/v1/models", headers=header)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        for key in ("secret", "other"):
            answer = await http.get("/v1/models", headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == 200


async def test_tokenize_and_back() -> None:
    async with client(FakeEngine()) as http:
        ids = (await http.post("/tokenize", json={"prompt": "hé", "return_token_strs": True})).json()
        chat = (await http.post("/tokenize", json={"messages": [{"role": "user", "content": "x"}]})).json()
        text = (await http.post("/detokenize", json={"tokens": ids["tokens"]})).json()
        bad = await http.post("/detokenize", json={"tokens": [999]})
        neither = await http.post("/tokenize", json={})
    assert ids == {
        "count": 3,
        "max_model_len": 100,
        "tokens": [104, 195, 169],
        "token_strs": ["<104>", "<195>", "<169>"],
    }
    assert bytes(chat["tokens"]) == b"<user>x<assistant>"
    assert text == {"prompt": "hé"}
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "tokens")
    assert neither.status_code == 400


async def test_metrics_count_a_request() -> None:
    engine = FakeEngine(*says("abc"))
    async with client(engine) as http:
        await http.post("/v1/completions", json={"prompt": "xy"})
        await http.post("/v1/completions", json={"prompt": "xy", "max_tokens": 2})
        found = await metrics(http)
    assert found["vllm:prompt_tokens_total"] == 4
    assert found["vllm:generation_tokens_total"] == 6
    assert found["vllm:prefix_cache_hits_total"] == 4
    assert found["vllm:request_success_totalstop"] == 1
    assert found["vllm:request_success_totallength"] == 1
    assert found["vllm:request_success_totalabort"] == 0
    assert found["vllm:num_requests_running"] == 0
    assert found["vllm:time_to_first_token_seconds_count"] == 2
    assert found["vllm:inter_token_latency_seconds_count"] == 4
    assert found["vllm:e2e_request_latency_seconds_count"] == 2
    assert found["vllm:request_generation_tokens_sum"] == 6


async def test_running_requests_show() -> None:
    gate = asyncio.Event()
    engine = FakeEngine(97, gate, EOS)
    async with client(engine) as http:
        running = asyncio.create_task(http.post("/v1/completions", json={"prompt": "x", "n": 2}))
        await engine.began.wait()
        await engine.sessions[0].waits.wait()
        assert (await http.get("/load")).json() == {"server_load": 2}
        assert (await metrics(http))["vllm:num_requests_running"] == 2
        engine.waiting = 1
        found = await metrics(http)
        assert (found["vllm:num_requests_running"], found["vllm:num_requests_waiting"]) == (1, 1)
        gate.set()
        await running
        assert (await http.get("/load")).json() == {"server_load": 0}


async def test_openapi_names_every_route_and_the_errors() -> None:
    async with client(FakeEngine()) as http:
        schema = (await http.get("/openapi.json")).json()
    assert {CHAT, "/v1/completions", "/v1/models", "/ready", "/metrics", "/tokenize"} <= set(schema["paths"])
    post = schema["paths"][CHAT]["post"]
    assert "422" not in post["responses"]
    assert post["responses"]["4XX"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorBody")
    assert "top_logprobs" in schema["components"]["schemas"]["ChatRequest"]["properties"]


def test_the_api_does_not_load_torch() -> None:
    code = "import sys, xpod.router.api; sys.exit('torch' in sys.modules)"
    path = [entry for entry in sys.path if entry]
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {code}"], check=False)
    assert done.returncode == 0


async def test_prometheus_finds_all_members_that_live() -> None:
    def member(id: str, state: str = "up", **detail: Any) -> dict[str, Any]:
        return {"id": id, "kind": id[:-2], "state": state, "detail": detail}

    engine = FakeEngine()
    engine.members = [
        member("decode-0", metrics="http://10.0.0.1:9400/metrics"),
        member("decode-1", "down", metrics="http://10.0.0.2:9400/metrics"),
        member("nats-0"),
    ]
    async with client(engine, api_key="secret") as http:  # open, as /metrics is
        answer = await http.get("/metrics/targets")
    assert answer.json() == [
        {"targets": ["10.0.0.1:9400"], "labels": {"member": "decode-0", "kind": "decode"}}
    ]


async def test_a_router_tells_what_another_member_measures() -> None:
    engine = FakeEngine()
    engine.texts["expert-0"] = "xpod_experts_held 3.0\n"
    async with client(engine) as http:
        answer = await http.get("/xpod/metrics/expert-0")
        assert answer.text == "xpod_experts_held 3.0\n"
        assert answer.headers["content-type"].startswith("text/plain")
        unknown = await http.get("/xpod/metrics/expert-9")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_member")
        engine.refusal = DeadlineExceeded("no answer in 2 s")
        silent = await http.get("/xpod/metrics/expert-0")
        assert (silent.status_code, silent.json()["error"]["code"]) == (503, "deadline")
    async with client(engine, api_key="secret") as http:
        assert (await http.get("/xpod/metrics/expert-0")).status_code == 401
