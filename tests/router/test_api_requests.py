"""Refusals: every bad request is told which parameter is wrong, before anything is generated."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from router.api_fakes import FakeEngine, app_of, says
from xpod.router.api import NotReady, Overloaded, SessionError

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


def client(engine: FakeEngine, **settings: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app_of(engine, **settings))
    return httpx.AsyncClient(transport=transport, base_url="http://router")


@cache
def strict_app() -> tuple[FakeEngine, Any]:
    """One app for all refusals: they keep no state, and its engine must never be asked."""
    engine = FakeEngine(*says("ok"))
    return engine, app_of(engine)


async def refused(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    engine, app = strict_app()
    content = json.dumps(body).encode()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://router") as http:
        answer = await http.post(path, content=content, headers={"content-type": "application/json"})
    assert not engine.opened
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert "\n" not in error["message"]
    return answer.status_code, error


BOTH = [
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -3}, "max_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": None, "top_p": 0}, "top_p"),
    ({"top_p": 1.1}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"min_p": 2}, "min_p"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"frequency_penalty": -2.5}, "frequency_penalty"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"5": 101}}, "logit_bias"),
    ({"logit_bias": {"257": 1}}, "logit_bias"),
    ({"logit_bias": [1]}, "logit_bias"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"seed": "x"}, "seed"),
    ({"seed": 2**63}, "seed"),
    ({"stop": ""}, "stop"),
    ({"stop": ["a", ""]}, "stop"),
    ({"stop": ["a"] * 17}, "stop"),
    ({"stop": 7}, "stop"),
    ({"stop_token_ids": [257]}, "stop_token_ids"),
    ({"stop_token_ids": ["a"]}, "stop_token_ids"),
    ({"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
    ({"min_tokens": -1}, "min_tokens"),
    ({"min_tokens": 99}, "min_tokens"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"include": True}}, "stream_options.include"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"ignore_eos": "no"}, "ignore_eos"),
    ({"cache_salt": ""}, "cache_salt"),
    ({"cache_salt": "x" * 257}, "cache_salt"),
    ({"cache_salt": 7}, "cache_salt"),
    ({"cache_salt": "\ud800"}, "cache_salt"),
    ({"prompt_cache_key": 7}, "prompt_cache_key"),
    ({"prompt_cache_key": "\ud800"}, "prompt_cache_key"),
    ({"user": "\ud800"}, "user"),
    ({"frobnicate": 1}, "frobnicate"),
    ({"frobnicate": None}, "frobnicate"),
    ({"suffix": "end"}, "suffix"),
    ({"best_of": 2}, "best_of"),
    ({"guided_json": {}}, "guided_json"),
    ({"echo": "x"}, "echo"),
]


@pytest.mark.parametrize(("extra", "param"), BOTH)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_bad_parameter_is_named(path: str, extra: dict[str, Any], param: str) -> None:
    base = {"messages": [{"role": "user", "content": "hi"}]} if path == CHAT else {"prompt": "hi"}
    status, error = await refused(path, base | extra)
    assert (status, error["param"], error["type"]) == (400, param, "invalid_request_error")
    assert param in error["message"]


PROMPTS: list[tuple[object, str]] = [
    ("", "empty_prompt"),
    ([], "empty_prompt"),
    ([""], "empty_prompt"),
    ([[]], "empty_prompt"),
    ([[1], []], "empty_prompt"),
    (7, "invalid_value"),
    ([1, "a"], "invalid_value"),
    ([-1], "invalid_value"),
    ([True], "invalid_value"),
    ([[1], "a"], "invalid_value"),
    (None, "missing_required_parameter"),
    ("x" * 100, "context_length_exceeded"),
    ("x" * 101, "context_length_exceeded"),
    (["a", "x" * 100], "context_length_exceeded"),
]


@pytest.mark.parametrize(("prompt", "code"), PROMPTS)
async def test_bad_prompt(prompt: object, code: str) -> None:
    status, error = await refused(COMPLETIONS, {"prompt": prompt})
    assert (status, error["param"], error["code"]) == (400, "prompt", code)


async def test_prompt_token_outside_the_vocabulary() -> None:
    status, error = await refused(COMPLETIONS, {"prompt": [1, 257]})
    assert (status, error["param"]) == (400, "prompt")
    assert "257" in error["message"]


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ARGUMENTS = "messages[0].tool_calls[0].function.arguments"
MESSAGES: list[tuple[object, str]] = [
    ([], "messages"),
    ("hi", "messages"),
    (None, "messages"),
    ([{"role": "wizard", "content": "x"}], "messages[0].role"),
    ([{"role": "tool", "content": "x"}], "messages[0].tool_call_id"),
    ([{"role": "function", "content": "x"}], "messages[0].role"),
    ([{"role": "user", "content": "x", "tool_call_id": "y"}], "messages[0].tool_call_id"),
    ([{"role": "user", "content": "x", "tool_calls": [CALL]}], "messages[0].tool_calls"),
    (
        [{"role": "assistant", "tool_calls": [CALL | {"function": {"name": "f", "arguments": "[]"}}]}],
        ARGUMENTS,
    ),
    (
        [{"role": "assistant", "tool_calls": [CALL | {"function": {"name": "f", "arguments": "{"}}]}],
        ARGUMENTS,
    ),
    ([{"role": "assistant"}], "messages[0].content"),
    ([{"role": "user"}], "messages[0].content"),
    ([{"role": "user", "content": None}], "messages[0].content"),
    ([{"role": "user", "content": 5}], "messages[0].content"),
    ([{"content": "x"}], "messages[0].role"),
    ([{"role": "user", "content": "x", "mood": "good"}], "messages[0].mood"),
    ([{"role": "assistant", "content": "x", "tool_calls": [{}]}], "messages[0].tool_calls[0].id"),
    ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "messages[0].content"),
    ([{"role": "user", "content": "refuse me"}], "messages"),
    ([{"role": "user", "content": "x" * 200}], "messages"),
]


@pytest.mark.parametrize(("messages", "param"), MESSAGES)
async def test_bad_messages(messages: object, param: str) -> None:
    status, error = await refused(CHAT, {"messages": messages})
    assert (status, error["param"]) == (400, param), error


CHAT_ONLY = [
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"logprobs": 2}, "logprobs"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"max_completion_tokens": 4, "max_tokens": 5}, "max_tokens"),
    ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
]


@pytest.mark.parametrize(("extra", "param"), CHAT_ONLY)
async def test_bad_chat_parameter(extra: dict[str, Any], param: str) -> None:
    status, error = await refused(CHAT, {"messages": [{"role": "user", "content": "hi"}]} | extra)
    assert (status, error["param"]) == (400, param)


async def test_an_image_part_is_named() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:"}}
    _, error = await refused(CHAT, {"messages": [{"role": "user", "content": [part]}]})
    assert "image_url" in error["message"]


@pytest.mark.parametrize("extra", [{"logprobs": -1}, {"logprobs": 21}, {"logprobs": True}])
async def test_bad_completion_logprobs(extra: dict[str, Any]) -> None:
    status, error = await refused(COMPLETIONS, {"prompt": "hi"} | extra)
    assert (status, error["param"]) == (400, "logprobs")


async def test_context_length_is_checked_with_max_tokens() -> None:
    status, error = await refused(COMPLETIONS, {"prompt": "hi", "max_tokens": 99, "stream": True})
    assert (status, error["code"]) == (400, "context_length_exceeded")
    assert "100" in error["message"]
    assert "101" in error["message"]


async def test_too_many_choices() -> None:
    engine = FakeEngine(*says("ok"))
    async with client(engine, max_choices=3) as http:
        answer = await http.post(COMPLETIONS, json={"prompt": ["a", "b"], "n": 2})
    assert answer.json()["error"]["param"] == "n"


NEUTRAL: dict[str, object] = {
    "suffix": None,
    "best_of": 1,
    "tools": [],
    "tool_choice": "none",
    "response_format": {"type": "text"},
    "metadata": None,
    "stop": None,
    "logit_bias": None,
    "user": "me",
    "temperature": 1,
    "top_k": -1,
}


@pytest.mark.parametrize(
    "body", [{"prompt": "hi"}, {"messages": [{"role": "user", "content": "hi", "tool_calls": None}]}]
)
async def test_neutral_values_are_accepted(body: dict[str, Any]) -> None:
    path = CHAT if "messages" in body else COMPLETIONS
    async with client(FakeEngine(*says("ok"))) as http:
        answer = await http.post(path, json=body | NEUTRAL)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(
    "content", [b"{", b"", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"prompt": NaN']
)
async def test_malformed_body(path: str, content: bytes) -> None:
    async with client(FakeEngine()) as http:
        answer = await http.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_not_a_number_is_refused() -> None:
    async with client(FakeEngine()) as http:
        body = b'{"prompt": "x", "temperature": NaN}'
        answer = await http.post(COMPLETIONS, content=body, headers={"content-type": "application/json"})
    assert answer.json()["error"]["param"] == "temperature"


async def test_lone_surrogate_is_refused() -> None:
    async with client(FakeEngine()) as http:
        body = b'{"prompt": "\\ud800"}'
        answer = await http.post(COMPLETIONS, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt")


async def test_a_body_without_content_type_is_read() -> None:
    async with client(FakeEngine(*says("ok"))) as http:
        answer = await http.post(COMPLETIONS, content=b'{"prompt": "x"}')
    assert answer.status_code == 200


async def test_body_too_large() -> None:
    async def chunks() -> Any:
        for _ in range(10):
            yield b"x" * 20

    async with client(FakeEngine(), max_body_bytes=100) as http:
        known = await http.post(COMPLETIONS, content=b"x" * 101)
        unknown = await http.post(COMPLETIONS, content=chunks())
    assert [a.status_code for a in (known, unknown)] == [413, 413]
    assert known.json()["error"]["code"] == unknown.json()["error"]["code"] == "body_too_large"


async def test_unknown_model() -> None:
    status, error = await refused(COMPLETIONS, {"prompt": "x", "model": "gpt-9"})
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "gpt-9" in error["message"]


ENGINE_ERRORS = [
    (NotReady("no prefill worker"), 503, "not_ready", "1"),
    (Overloaded(2.5), 429, "overloaded", "3"),
    (SessionError("no_worker", "nobody took it"), 503, "no_worker", "1"),
    (SessionError("queue_timeout", "all were full"), 408, "queue_timeout", "1"),
    (SessionError("divergence", "two answers"), 500, "divergence", None),
    (SessionError("bad_request", "the worker refused it"), 400, "bad_request", None),
    (RuntimeError("a bug"), 500, "internal", None),
]


@pytest.mark.parametrize(("refusal", "status", "code", "retry"), ENGINE_ERRORS)
@pytest.mark.parametrize("stream", [False, True])
async def test_engine_refusals_come_before_the_200(
    refusal: Exception, status: int, code: str, retry: str | None, stream: bool
) -> None:
    engine = FakeEngine()
    engine.refusal = refusal
    with capture_logs():
        async with client(engine) as http:
            answer = await http.post(COMPLETIONS, json={"prompt": "x", "stream": stream})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers.get("retry-after") == retry
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("name", ["a\nb", "x" * 10_000, "\ud800"])
async def test_a_refusal_is_one_short_line(name: str) -> None:
    _, error = await refused(COMPLETIONS, {"prompt": "x", name: 1})
    assert error["message"].startswith(("unknown parameter: ", "the body must be a JSON object"))
    assert len(error["message"]) <= 500
    assert (await refused(COMPLETIONS, {"prompt": "x", "model": name + " " + name}))[0] in (400, 404)
