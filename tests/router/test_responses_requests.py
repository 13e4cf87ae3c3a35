"""What /v1/responses refuses, and in which words."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from router.api_fakes import FakeEngine, app_of, post, says, shelf_of

RESPONSES = "/v1/responses"
HI: dict[str, Any] = {"input": "hi"}

UNSUPPORTED = [
    ("access_programs", {"cyber": "standard"}),
    ("context_management", [{"type": "compaction"}]),
    ("conversation", "conv_1"),
    ("image", {"context_compression": "auto"}),
    ("max_completion_tokens", 5),
    ("max_tokens", 5),
    ("max_tool_calls", 3),
    ("messages", [{"role": "user", "content": "a"}]),
    ("moderation", {"model": "m"}),
    ("n", 2),
    ("prompt", {"id": "pmpt_1"}),
    ("prompt_cache_options", {"mode": "explicit"}),
    ("prompt_cache_retention", "24h"),
    ("reasoning", {"effort": "low"}),
    ("response_format", {"type": "text"}),
    ("service_tier", "flex"),
    ("stream_options", {"include_obfuscation": True}),
    ("verbosity", "low"),
]


async def refusal(body: dict[str, Any], status: int = 400) -> dict[str, Any]:
    answer = await post(FakeEngine(*says("a")), RESPONSES, body)
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error


@pytest.mark.parametrize(("name", "value"), UNSUPPORTED, ids=[name for name, _ in UNSUPPORTED])
async def test_what_is_not_supported_is_refused_by_name(name: str, value: object) -> None:
    error = await refusal(HI | {name: value})
    assert error["param"] == name
    assert name in error["message"]


@pytest.mark.parametrize("name", [name for name, _ in UNSUPPORTED])
async def test_null_is_nothing(name: str) -> None:
    answer = await post(FakeEngine(*says("a")), RESPONSES, HI | {name: None})
    assert answer.status_code == 200, answer.text


NEUTRAL = [
    {"service_tier": "auto"},
    {"stream_options": {"include_obfuscation": False}},
    {"reasoning": {"effort": "none"}},
    {"reasoning": {}},
    {"text": {"verbosity": "medium", "format": {"type": "text"}}},
    {"truncation": "disabled"},
]


@pytest.mark.parametrize("more", NEUTRAL, ids=str)
async def test_what_changes_nothing_is_taken(more: dict[str, Any]) -> None:
    answer = await post(FakeEngine(*says("a")), RESPONSES, HI | more)
    assert answer.status_code == 200, answer.text


def item(**fields: object) -> dict[str, object]:
    return {"input": [fields]}


BAD_SCHEMA = {"type": "json_schema", "name": "a", "schema": {"type": 5}}
CASES: list[tuple[dict[str, Any], str, str]] = [
    ({}, "input", "missing_required_parameter"),
    (HI | {"stop_words": 1}, "stop_words", "unknown_parameter"),
    ({"input": 5}, "input", "invalid_value"),
    ({"input": []}, "input", "invalid_value"),
    ({"input": [5]}, "input", "invalid_value"),
    (item(type="item_reference", id="x"), "input", "invalid_value"),
    (item(type="reasoning", summary=[]), "input", "invalid_value"),
    (item(role="nobody", content="a"), "input[0].role", "invalid_value"),
    (item(role="user"), "input[0].content", "missing_required_parameter"),
    (item(role="user", content="a", foo=1), "input[0].foo", "unknown_parameter"),
    (item(role="user", content=[{"type": "input_image", "image_url": "x"}]), "input[0].content", "invalid_value"),
    (item(type="function_call", call_id="c", name="f", arguments="["), "input[0].arguments", "invalid_value"),
    (item(type="function_call_output", call_id="c", output="x"), "input", "unknown_call"),
    (HI | {"background": True, "store": False}, "background", "invalid_value"),
    (HI | {"include": ["reasoning.encrypted_content"]}, "include", "invalid_value"),
    (HI | {"top_logprobs": 2}, "top_logprobs", "invalid_value"),
    (HI | {"top_logprobs": 21}, "top_logprobs", "invalid_value"),
    (HI | {"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
    (HI | {"max_output_tokens": 500}, "input", "context_length_exceeded"),
    (HI | {"metadata": {"a": 5}}, "metadata", "invalid_value"),
    (HI | {"metadata": {str(n): "a" for n in range(17)}}, "metadata", "invalid_value"),
    (HI | {"metadata": {"a" * 65: "a"}}, "metadata", "invalid_value"),
    (HI | {"tools": [{"type": "web_search"}]}, "tools[0].type", "invalid_value"),
    (HI | {"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name", "invalid_value"),
    (HI | {"tool_choice": "required"}, "tool_choice", "invalid_value"),
    (HI | {"tool_choice": {"type": "function", "name": "f"}}, "tool_choice", "invalid_value"),
    (HI | {"text": {"format": {"type": "grammar"}}}, "text.format", "invalid_value"),
    (HI | {"text": {"verbosity": "low"}}, "text.verbosity", "invalid_value"),
    (HI | {"text": {"format": {"type": "json_object"}}, "ignore_eos": True}, "ignore_eos", None),
    (HI | {"text": {"format": BAD_SCHEMA}}, "text.format", "bad_grammar"),
    (HI | {"truncation": "middle"}, "truncation", "invalid_value"),
    (HI | {"previous_response_id": "x"}, "previous_response_id", "invalid_value"),
    (HI | {"previous_response_id": "resp_x"}, "previous_response_id", "previous_response_not_found"),
    (HI | {"logit_bias": {"999": 1.0}}, "logit_bias", None),
    (HI | {"chat_template_kwargs": {"messages": 1}}, "chat_template_kwargs", None),
    ({"input": "refuse me"}, "input", "chat_template"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param", "code"), CASES, ids=[f"{n}-{c[1]}" for n, c in enumerate(CASES)])
async def test_refusals_name_the_parameter(body: dict[str, Any], param: str, code: str | None) -> None:
    error = await refusal(body)
    assert (error["param"], error["code"]) == (param, code)


async def test_another_model() -> None:
    assert (await refusal(HI | {"model": "other"}, 404))["code"] == "model_not_found"


async def test_query_parameters() -> None:

    transport = httpx.ASGITransport(app_of(FakeEngine(*says("a"))))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        id = (await http.post(RESPONSES, json=HI)).json()["id"]
        for path, param in [
            ("?foo=1", "foo"),
            ("?stream=maybe", "stream"),
            ("?stream=true&starting_after=-1", "starting_after"),
            ("?stream=true&starting_after=" + "9" * 5000, "starting_after"),
            ("?include_obfuscation=true", "include_obfuscation"),
            ("?include[]=message.output_text.logprobs", "include"),
            ("?include=file_search_call.results", "include"),
            ("/input_items?limit=0", "limit"),
            ("/input_items?include=file_search_call.results", "include"),
            ("/input_items?limit=101", "limit"),
            ("/input_items?order=up", "order"),
        ]:
            answer = await http.get(f"{RESPONSES}/{id}{path}")
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), path


@pytest.mark.parametrize("id", ["resp_", "x.y", "resp_*", "resp_%3E", "resp_a.b", "resp_a%0A", "*"])
async def test_ids_that_are_none_never_reach_the_store(id: str) -> None:
    shelf = shelf_of()
    asked = []
    shelf.find = asked.append  # type: ignore[method-assign, assignment]
    transport = httpx.ASGITransport(app_of(FakeEngine(), shelf))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
            answer = await http.request(method, f"{RESPONSES}/{id}{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "response_not_found")
    assert asked == []


async def test_half_a_surrogate_pair_where_nobody_looks() -> None:
    engine = FakeEngine(*says("a"))
    transport = httpx.ASGITransport(app_of(engine))
    body = (
        rb'{"input": "a", "tools": [{"type": "function", "name": "f", "strict": false, "parameters": '
        rb'{"type": "object", "description": "\ud800"}}]}'
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        answer = await http.post(RESPONSES, content=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools[0].parameters")
    assert not engine.opened
