"""Tools: what the model is told, what its answer is held to, and how calls come back."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from router.api_fakes import CHAT, COMPLETIONS, ByteText, FakeEngine, says
from router.test_api_requests import client
from xpod.router.api.requests import ChatRequest

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "of a city", "parameters": SCHEMA},
}
TIME = {"type": "function", "function": {"name": "time"}}
ASK = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 90, "tools": [WEATHER, TIME]}
CALLS = (
    'So:<tool_call>\n{"name": "weather", "arguments": {"city": "Ur"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'
)

FORMS = {
    "json": CALLS,
    "tagged": (
        "So:<tool_call>\n<function=weather>\n<parameter=city>\nUr\n</parameter>\n</function>\n</tool_call>\n"
        "<tool_call>\n<function=time>\n</function>\n</tool_call>"
    ),
}


class Roomy(FakeEngine):
    max_model_len = 4000


async def asked(extra: dict[str, Any], said: str = CALLS) -> tuple[httpx.Response, FakeEngine]:
    engine = Roomy(*says(said))
    async with client(engine) as http:
        return await http.post(CHAT, json=ASK | {"max_tokens": 400} | extra), engine


async def streamed(extra: dict[str, Any], said: str = CALLS) -> list[dict[str, Any]]:
    answer, _ = await asked(extra | {"stream": True}, said)
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    return [choice for event in events for choice in json.loads(event)["choices"]]


TOLD: dict[str, tuple[dict[str, Any], str]] = {
    "by itself": ({}, "<tool>weather<tool>time"),
    "auto": ({"tool_choice": "auto"}, "<tool>weather<tool>time"),
    "required": ({"tool_choice": "required"}, "<tool>weather<tool>time"),
    "none": ({"tool_choice": "none"}, ""),
    "one": ({"tool_choice": {"type": "function", "function": {"name": "time"}}}, "<tool>time"),
    "no tools": ({"tools": []}, ""),
}


@pytest.mark.parametrize("name", TOLD)
async def test_the_template_gets_what_may_be_called(name: str) -> None:
    extra, told = TOLD[name]
    answer, engine = await asked(extra, "ok")
    assert answer.status_code == 200, answer.text
    assert bytes(engine.opened[0][0]).decode() == f"{told}<user>hi<assistant>"


@pytest.mark.parametrize("form", FORMS)
async def test_calls_come_back_in_the_message(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ByteText, "call_form", form)
    answer, _ = await asked({}, FORMS[form])
    (choice,) = answer.json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "So:"
    assert choice["message"]["tool_calls"] == [
        {
            "id": "call_s0_0",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city": "Ur"}'},
        },
        {"id": "call_s0_1", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]


@pytest.mark.parametrize("form", FORMS)
async def test_a_stream_says_the_same_piece_by_piece(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ByteText, "call_form", form)
    choices = await streamed({}, FORMS[form])
    deltas = [choice["delta"] for choice in choices]
    assert "".join(delta.get("content") or "" for delta in deltas) == "So:"
    calls: list[dict[str, Any]] = []
    for call in (call for delta in deltas for call in delta.get("tool_calls", [])):
        if "id" in call:
            calls.append({"id": call["id"], **call["function"]})
        else:
            calls[call["index"]]["arguments"] += call["function"]["arguments"]
    assert calls == [
        {"id": "call_s0_0", "name": "weather", "arguments": '{"city": "Ur"}'},
        {"id": "call_s0_1", "name": "time", "arguments": "{}"},
    ]
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["tool_calls"]


@pytest.mark.parametrize(
    ("extra", "said", "content", "finish"),
    [
        ({}, "Sunny.", "Sunny.", "stop"),
        ({"tool_choice": "none"}, CALLS, CALLS, "stop"),
        ({"tools": []}, CALLS, CALLS, "stop"),
        ({"max_tokens": 60}, CALLS, "So:", "length"),
        ({}, "<tool_call>no</tool_call>", "<tool_call>no</tool_call>", "stop"),
        ({"stop": ["Ur"]}, CALLS, "So:", "tool_calls"),
    ],
)
async def test_what_is_no_call_stays_text(
    extra: dict[str, Any], said: str, content: str, finish: str
) -> None:
    answer, _ = await asked(extra, said)
    (choice,) = answer.json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (content, finish)


async def test_a_message_of_calls_alone_has_no_content() -> None:
    answer, _ = await asked({}, CALLS.removeprefix("So:"))
    assert answer.json()["choices"][0]["message"]["content"] is None


async def test_what_came_of_calls_goes_to_the_template() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ur"}'}}
    request = ChatRequest.model_validate(
        {
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": None, "tool_calls": [call | {"index": 0}]},
                {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "sun"}]},
            ]
        }
    )
    assert [message.for_template() for message in request.messages[1:]] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [call | {"function": {"name": "weather", "arguments": {"city": "Ur"}}}],
        },
        {"role": "tool", "content": "sun", "tool_call_id": "c"},
    ]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no function": ({"tools": [{"type": "function"}]}, "tools[0].function"),
    "no name": ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    "a name with a space": (
        {"tools": [{"type": "function", "function": {"name": "a b"}}]},
        "tools[0].function.name",
    ),
    "another type": ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    "twice the same": ({"tools": [TIME, TIME]}, "tools"),
    "nothing to choose from": ({"tools": [], "tool_choice": "required"}, "tool_choice"),
    "a choice that is none": ({"tool_choice": "always"}, "tool_choice"),
    "a tool that is not there": (
        {"tool_choice": {"type": "function", "function": {"name": "fly"}}},
        "tool_choice",
    ),
    "a schema that is none": (
        {
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "integr"}}}],
            "tool_choice": "required",
        },
        "tools",
    ),
    "a form of another kind": ({"structured_outputs": {"regex": "a"}}, "structured_outputs"),
    "no end": ({"tool_choice": "required", "ignore_eos": True}, "ignore_eos"),
    "a template's own word": ({"chat_template_kwargs": {"tools": []}}, "chat_template_kwargs"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refusals(name: str) -> None:
    extra, param = REFUSED[name]
    answer, engine = await asked(extra)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert not engine.opened


async def test_only_chats_have_tools() -> None:
    async with client(Roomy(*says("ok"))) as http:
        answer = await http.post(COMPLETIONS, json={"prompt": "hi", "tools": [TIME]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools")


async def test_a_template_without_a_place_for_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.api_fakes.ByteText.knows_tools", False)
    answer, engine = await asked({})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools")
    assert not engine.opened
