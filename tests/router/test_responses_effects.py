"""Every parameter of /v1/responses does what /openapi.json says of it, with the demo model's own logits."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI

from router.effects import BOTH, FUNCTION, TALK, Effect, Json, effects_app, is_look, seen
from router.reference_engine import ReferenceEngine
from xpod.router.api.requests import Sampled
from xpod.router.api.responses.request import LOGPROBS, ResponsesRequest

RESPONSES = "/v1/responses"
BODY: Json = {"input": "Say something.", "max_output_tokens": 24, "seed": 3, "return_token_ids": True}
TOOLS = [{"type": "function", **FUNCTION}]
LIKELY = {"include": [LOGPROBS]}
LONGER = [*TALK["messages"], {"role": "assistant", "content": "word " * 600}, *TALK["messages"]]


def in_our_words(effect: Effect) -> Effect:
    base = {{"max_tokens": "max_output_tokens"}.get(name, name): each for name, each in effect.base.items()}
    return replace(effect, base=base)


def likely(body: Any) -> list[Json]:
    (item,) = body["output"]
    return [token for part in item["content"] for token in part["logprobs"]]


EFFECTS = {name: in_our_words(BOTH[name]) for name in Sampled.model_fields} | {
    name: BOTH[name] for name in ("model", "ignore_eos", "min_tokens", "structured_outputs")
}
EFFECTS |= {
    "input": Effect(
        {"input": [{"role": "developer", "content": "Other."}, *TALK["messages"]]},
        lambda a, b: len(b.prompts[0]) > len(a.prompts[0]),
    ),
    "instructions": Effect({"instructions": "Other."}, lambda a, b: len(b.prompts[0]) > len(a.prompts[0])),
    "stream": Effect({"stream": True}, lambda a, b: "\nevent: response.completed\n" in b.text),
    "background": Effect(
        {"background": True},
        lambda a, b: a.body["status"] == "completed" and b.body["status"] in ("queued", "in_progress"),
    ),
    "store": Effect({"store": False}, lambda a, b: (a.body["store"], b.body["store"]) == (True, False)),
    "previous_response_id": Effect(
        lambda a: {"previous_response_id": a.body["id"]},
        lambda a, b: len(b.prompts[0]) > len(a.prompts[0]) + len(a.ids) - 3,
    ),
    "metadata": Effect({"metadata": {"a": "b"}}, lambda a, b: b.body["metadata"] == {"a": "b"}),
    "safety_identifier": Effect(
        {"safety_identifier": "me"}, lambda a, b: b.body["safety_identifier"] == "me"
    ),
    "max_output_tokens": Effect(
        {"max_output_tokens": 5},
        lambda a, b: b.ids == a.ids[:5] and b.body["status"] == "incomplete",
        {"ignore_eos": True},
    ),
    "include": Effect(
        LIKELY, lambda a, b: not likely(a.body) and all(each["logprob"] <= 0 for each in likely(b.body))
    ),
    "top_logprobs": Effect(
        {"top_logprobs": 3},
        lambda a, b: all(len(each["top_logprobs"]) == 3 for each in likely(b.body)),
        LIKELY,
    ),
    "text": Effect(
        {"text": {"format": {"type": "json_schema", "name": "b", "schema": {"type": "boolean"}}}},
        lambda a, b: json.loads(b.said) in (True, False),
    ),
    "tools": Effect({"tools": TOOLS}, lambda a, b: len(b.prompts[0]) > len(a.prompts[0])),
    "tool_choice": Effect(
        {"tool_choice": "required", "max_output_tokens": 100},
        lambda a, b: is_look(b),
        {"tools": TOOLS, "parallel_tool_calls": False},
    ),
    "parallel_tool_calls": Effect(
        {"parallel_tool_calls": False},
        lambda a, b: is_look(b),
        {"tools": TOOLS, "tool_choice": "required", "max_output_tokens": 100},
    ),
    "truncation": Effect(
        {"truncation": "auto"}, lambda a, b: (a.status, b.status) == (400, 200), {"input": LONGER}
    ),
    "chat_template_kwargs": Effect(
        {"chat_template_kwargs": {"mood": "merry"}}, lambda a, b: len(b.prompts[0]) > len(a.prompts[0])
    ),
}


@pytest.fixture(scope="module")
def engine() -> ReferenceEngine:
    return ReferenceEngine()


@pytest.fixture(scope="module")
def app(engine: ReferenceEngine, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return effects_app(engine, tmp_path_factory.mktemp("text"))


def test_every_parameter_has_a_case() -> None:
    assert EFFECTS.keys() == {each.alias or name for name, each in ResponsesRequest.model_fields.items()}


@pytest.mark.parametrize("name", EFFECTS)
async def test_a_parameter_does_what_it_says(engine: ReferenceEngine, app: FastAPI, name: str) -> None:
    await seen(engine, app, RESPONSES, BODY, EFFECTS[name])
