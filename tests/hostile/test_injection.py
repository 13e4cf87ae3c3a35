"""What clients choose is said again in headers, logs, metrics and errors, and never becomes more than a value there."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import structlog

from hostile.served import ask, served
from router.api_fakes import CHAT, COMPLETIONS, HI, FakeEngine, app_of, says
from xpod.router.connections import Connections
from xpod_runtime import logs

LINES = "a\r\nx-evil: 1\n\x1b[31m\0"


@pytest.fixture
def restored() -> Iterator[None]:
    """Logging as it was."""
    before, root = structlog.get_config(), logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    structlog.configure(**before)
    root.setLevel(level)
    root.handlers[:] = handlers


async def asked(method: str, path: str, engine: FakeEngine | None = None, **request: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app_of(engine or FakeEngine(*says("ok"))))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        return await http.request(method, path, **request)


@pytest.mark.parametrize("given", ["a\r\nb", "a\x1b[31mb", "x" * 129, "a b", "\xe9", ""])
async def test_a_request_id_that_is_none_is_replaced(given: str) -> None:
    answer = await asked("GET", "/health", headers={"x-request-id": given.encode("latin-1")})  # type: ignore[dict-item]
    assert len(answer.headers["x-request-id"]) == 32
    assert given not in answer.headers["x-request-id"] or not given


async def test_a_request_id_comes_back() -> None:
    answer = await asked("GET", "/health", headers={"x-request-id": "req_1-2.3/4"})
    assert answer.headers["x-request-id"] == "req_1-2.3/4"


@pytest.mark.parametrize("name", [b"x-request-id", b"idempotency-key", b"last-event-id", b"authorization"])
@pytest.mark.parametrize("value", [b"a\rb", b"a\x00b"])
async def test_broken_headers_end_in_400(name: bytes, value: bytes) -> None:
    async with served(FakeEngine(*says("ok")), Connections(10)) as port:
        answer = await ask(port, b"GET /health HTTP/1.1\r\nHost: x\r\n" + name + b": " + value + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("field", ["user", "prompt_cache_key", "cache_salt"])
async def test_names_are_values(field: str) -> None:
    engine = FakeEngine(*says("ok"))
    answer = await asked("POST", COMPLETIONS, engine, json={"prompt": "x", field: LINES})
    assert answer.status_code == 200
    assert "x-evil" not in answer.headers
    assert LINES in (engine.affinities[0].conversation, LINES)


@pytest.mark.parametrize("key", ["k" * 255, "\x7f~ ", "'; drop"])
async def test_any_key_names_a_session(key: str) -> None:
    engine = FakeEngine(*says("ok"))
    headers = {"idempotency-key": key}
    assert (
        await asked("POST", COMPLETIONS, engine, json={"prompt": "x"}, headers=headers)
    ).status_code == 200
    claim = engine.claims[0]
    assert claim is not None
    assert claim.session[1:].isalnum()  # part of a subject on the bus


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_a_key_that_is_none(key: str) -> None:
    answer = await asked("POST", COMPLETIONS, json={"prompt": "x"}, headers={"idempotency-key": key})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "idempotency-key")


@pytest.mark.parametrize("place", ["s0.1.2\x1b", "s.1.1", "s*.1.1", "s>.1.1", "s0.-1.0", "s0.1." + "9" * 30])
async def test_a_place_that_is_none_is_no_place(place: str) -> None:
    engine = FakeEngine(*says("ok"))
    body = {"prompt": "x", "stream": True}
    assert (
        await asked("POST", COMPLETIONS, engine, json=body, headers={"last-event-id": place})
    ).status_code == 200
    assert engine.claims == [None]


async def test_a_model_of_several_lines() -> None:
    answer = await asked("POST", CHAT, json={**HI, "model": LINES})
    assert answer.status_code == 404
    assert "\n" not in answer.json()["error"]["message"]


PATHS = [
    "/v1/models/../../etc/passwd",
    "/v1/models/..%2f..%2fetc%2fpasswd",
    "/v1/models/%0d%0aevil",
    "/v1/models/" + "x" * 8000,
    "/xpod/metrics/..%2f..%2fx",
    "/xpod/metrics/*",
    "/xpod/metrics/%3e",
    "/xpod/metrics/a.b.c",
    "/xpod/metrics/%0d%0a",
    "//v1/models",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/v1/%00",
]


@pytest.mark.parametrize("path", PATHS)
async def test_paths_lead_nowhere(path: str) -> None:
    async with served(FakeEngine(), Connections(10)) as port:
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = await ask(port, head.encode())
    assert answer.startswith(b"HTTP/1.1 404 "), answer[:100]
    message = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
    assert "\n" not in message
    assert len(message) <= 500


async def test_names_with_slashes_are_served() -> None:
    transport = httpx.ASGITransport(app_of(FakeEngine(), served_model_names=("org/model", "../x")))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        assert (await http.get("/v1/models/org/model")).json()["id"] == "org/model"
        assert (await http.get("/v1/models/..%2fx")).json()["id"] == "../x"


@pytest.mark.parametrize("console", [False, True])
@pytest.mark.usefixtures("restored")
async def test_a_log_line_stays_one(console: bool) -> None:
    stream = io.StringIO()
    logs.configure(console=console, stream=stream)
    engine = FakeEngine()
    engine.refusal = RuntimeError("a bug")
    transport = httpx.ASGITransport(app_of(engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        await http.post(COMPLETIONS, json={"prompt": "x"})
    structlog.get_logger("x").warning("told", path=LINES, event_id=LINES)
    told = stream.getvalue()
    (line,) = [each for each in told.split("\n") if "told" in each]
    assert "x-evil" in line
    assert "\x1b[31m\0" not in told
    assert "\r" not in told


async def test_keys_are_in_no_log_and_no_answer() -> None:
    stream = io.StringIO()
    key = "sk-very-secret"
    before = structlog.get_config()
    logs.configure(stream=stream)
    try:
        engine = FakeEngine()
        engine.refusal = RuntimeError("a bug")
        transport = httpx.ASGITransport(app_of(engine, api_key=f"other,{key}"))
        async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
            headers = {"authorization": f"Bearer {key}"}
            said = [(await http.post(COMPLETIONS, json={"prompt": "x"}, headers=headers)).text]
            said += [(await http.get(path, headers=headers)).text for path in ("/metrics", "/xpod/status")]
            wrong = {"authorization": f"Bearer {key}x"}
            said.append((await http.post(COMPLETIONS, json={"prompt": "x"}, headers=wrong)).text)
    finally:
        structlog.configure(**before)
    assert "request failed" in stream.getvalue()
    assert key not in stream.getvalue() + "".join(said)
