"""Every parameter does what /openapi.json says of it, with the demo model's own logits.

The table has a case for each field of the request models: a new field without one fails.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import jsonschema_rs
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from router.api_fakes import CHAT, COMPLETIONS
from router.reference_engine import ReferenceEngine
from xpod.router.api import ApiSettings, make_app
from xpod.router.api.engine_protocol import Affinity
from xpod.router.api.requests import ChatRequest, CompletionRequest
from xpod.router.api.token_routes import DetokenizeRequest, TokenizeRequest
from xpod_model.demo import demo_path
from xpod_model.text import Text

Json = dict[str, Any]
BODY: dict[str, Json] = {
    COMPLETIONS: {"prompt": "def add(a, b):\n", "max_tokens": 24, "seed": 3, "return_token_ids": True},
    CHAT: {
        "messages": [{"role": "user", "content": "Say something."}],
        "max_tokens": 24,
        "seed": 3,
        "return_token_ids": True,
    },
    "/tokenize": {"prompt": "import os"},
    "/detokenize": {"tokens": [260, 261]},
}
MODELS: dict[str, type[BaseModel]] = {
    COMPLETIONS: CompletionRequest,
    CHAT: ChatRequest,
    "/tokenize": TokenizeRequest,
    "/detokenize": DetokenizeRequest,
}
FUNCTION = {
    "name": "look",
    "description": "Looks.",
    "parameters": {
        "type": "object",
        "properties": {"x": {"type": "boolean"}},
        "required": ["x"],
        "additionalProperties": False,
    },
}
TOOLS = [{"type": "function", "function": FUNCTION}]


class Said:
    """An answer, and what the engine was told."""

    def __init__(self, status: int, body: Any, engine: ReferenceEngine, text: str) -> None:
        self.status, self.body, self.text = status, body, text
        self.prompts = [prompt for prompt, _ in engine.opened]
        self.affinity = engine.affinities[-1] if engine.affinities else Affinity()

    @property
    def choices(self) -> list[Json]:
        return list(self.body["choices"])

    @property
    def ids(self) -> list[int]:
        return [int(each) for each in self.choices[0]["token_ids"]]

    @property
    def said(self) -> str:
        choice = self.choices[0]
        return str(choice["text"] if "text" in choice else choice["message"]["content"])


@dataclass
class Effect:
    """`extra` and what it makes of the answer; `base` is in both requests."""

    extra: Json
    seen: Callable[[Said, Said], object]
    base: Json = field(default_factory=dict)
    without: tuple[str, ...] = ()


def distinct(said: Said) -> int:
    return len(set(said.ids))


def is_look(said: Said) -> bool:
    (call,) = said.choices[0]["message"]["tool_calls"]
    return call["function"]["name"] == "look" and set(json.loads(call["function"]["arguments"])) == {"x"}


GREEDY = {"temperature": 0}
LONG = {"ignore_eos": True}
REPEATING = {**GREEDY, **LONG, "max_tokens": 120}
ENDING = {"logit_bias": {"2": 100}}
TALK = {"messages": [{"role": "user", "content": "Say something."}]}
BOTH: dict[str, Effect] = {
    "model": Effect({"model": "other"}, lambda a, b: (a.status, b.body["model"]) == (200, "other")),
    "stream": Effect({"stream": True}, lambda a, b: b.text.endswith("data: [DONE]\n\n")),
    "stream_options": Effect(
        {"stream_options": {"include_usage": True}},
        lambda a, b: b.text.count('"choices":[]') == 1 and '"choices":[]' not in a.text,
        {"stream": True},
    ),
    "n": Effect(
        {"n": 3}, lambda a, b: len({tuple(c["token_ids"]) for c in b.choices}) == 3 and b.ids == a.ids
    ),
    "max_tokens": Effect(
        {"max_tokens": 5}, lambda a, b: b.ids == a.ids[:5] and b.choices[0]["finish_reason"] == "length", LONG
    ),
    "temperature": Effect({"temperature": 0, "seed": 4}, lambda a, b: a.ids == b.ids, GREEDY),
    "top_p": Effect({"seed": 4}, lambda a, b: a.ids == b.ids, LONG | {"top_p": 1e-9}),
    "top_k": Effect({"seed": 4}, lambda a, b: a.ids == b.ids, LONG | {"top_k": 1}),
    "min_p": Effect({"min_p": 0.9}, lambda a, b: distinct(b) < distinct(a), LONG | {"temperature": 3.0}),
    "presence_penalty": Effect(
        {"presence_penalty": 2.0}, lambda a, b: distinct(b) >= distinct(a) and a.ids != b.ids, REPEATING
    ),
    "frequency_penalty": Effect(
        {"frequency_penalty": 2.0}, lambda a, b: distinct(b) > distinct(a), REPEATING
    ),
    "repetition_penalty": Effect(
        {"repetition_penalty": 1.8}, lambda a, b: distinct(b) > distinct(a), REPEATING
    ),
    "logit_bias": Effect({"logit_bias": {"300": 100}}, lambda a, b: set(b.ids) == {300}),
    "seed": Effect({"seed": 4}, lambda a, b: a.ids != b.ids and b.body["xpod"]["seed"] == 4, LONG),
    "stop": Effect({"stop": ["e"]}, lambda a, b: "e" in a.said and b.said == a.said[: a.said.index("e")]),
    "stop_token_ids": Effect(
        {"stop_token_ids": [300]}, lambda a, b: b.ids == [300] and b.said == "", {"logit_bias": {"300": 100}}
    ),
    "user": Effect({"user": "me"}, lambda a, b: b.affinity.conversation == "me" != a.affinity.conversation),
    "prompt_cache_key": Effect(
        {"prompt_cache_key": "talk"}, lambda a, b: b.affinity.conversation == "talk", {"user": "me"}
    ),
    "cache_salt": Effect({"cache_salt": "s"}, lambda a, b: b.affinity.salt and not a.affinity.salt),
    "priority": Effect({"priority": -3}, lambda a, b: (a.affinity.priority, b.affinity.priority) == (0, -3)),
    "return_token_ids": Effect(
        {"return_token_ids": True},
        lambda a, b: "token_ids" in b.choices[0] and "token_ids" not in a.choices[0],
        without=("return_token_ids",),
    ),
    "timeout": Effect(
        {"timeout": 1e-6}, lambda a, b: (b.status, b.body["error"]["code"]) == (408, "deadline_exceeded")
    ),
    "ignore_eos": Effect({"ignore_eos": True}, lambda a, b: len(a.ids) == 1 and len(b.ids) == 24, ENDING),
    "min_tokens": Effect({"min_tokens": 7}, lambda a, b: len(a.ids) == 1 and len(b.ids) == 8, ENDING),
    "response_format": Effect(
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "b", "schema": {"type": "boolean"}},
            }
        },
        lambda a, b: json.loads(b.said) in (True, False),
    ),
    "structured_outputs": Effect(
        {"structured_outputs": {"choice": ["left", "right"]}}, lambda a, b: b.said in ("left", "right")
    ),
}
COMPLETION: dict[str, Effect] = {
    "prompt": Effect(
        {"prompt": [[5, 6], [7]]}, lambda a, b: b.prompts == [[5, 6], [7]] and len(b.choices) == 2
    ),
    "logprobs": Effect(
        {"logprobs": 2},
        lambda a, b: (
            a.choices[0]["logprobs"] is None
            and all(2 <= len(t) <= 3 for t in b.choices[0]["logprobs"]["top_logprobs"])
        ),
    ),
    "echo": Effect({"echo": True}, lambda a, b: b.said == BODY[COMPLETIONS]["prompt"] + a.said),
}
CHATS: dict[str, Effect] = {
    "messages": Effect(
        {"messages": [{"role": "system", "content": "Other."}, *TALK["messages"]]},
        lambda a, b: len(b.prompts[0]) > len(a.prompts[0]),
    ),
    "max_completion_tokens": Effect(
        {"max_completion_tokens": 5},
        lambda a, b: len(b.ids) == 5 < len(a.ids),
        {"ignore_eos": True},
        ("max_tokens",),
    ),
    "logprobs": Effect(
        {"logprobs": True},
        lambda a, b: all(
            t["logprob"] <= 0 and not t["top_logprobs"] for t in b.choices[0]["logprobs"]["content"]
        ),
    ),
    "top_logprobs": Effect(
        {"top_logprobs": 3},
        lambda a, b: all(len(t["top_logprobs"]) == 3 for t in b.choices[0]["logprobs"]["content"]),
        {"logprobs": True},
    ),
    "chat_template_kwargs": Effect({"chat_template_kwargs": {"mood": "merry"}}, lambda a, b: b.status == 200),
    "tools": Effect({"tools": TOOLS}, lambda a, b: len(b.prompts[0]) > len(a.prompts[0])),
    "tool_choice": Effect(
        {"tool_choice": "required", "max_tokens": 100},
        lambda a, b: is_look(b),
        {"tools": TOOLS, "parallel_tool_calls": False},
    ),
    "parallel_tool_calls": Effect(
        {"parallel_tool_calls": False}, lambda a, b: is_look(b), {"tools": TOOLS, "tool_choice": "required"}
    ),
}
TOKENIZE: dict[str, Effect] = {
    "model": Effect({"model": "nobody"}, lambda a, b: b.status == 404),
    "prompt": Effect(
        {"prompt": "import os, sys"}, lambda a, b: b.body["tokens"][: a.body["count"]] == a.body["tokens"]
    ),
    "messages": Effect(TALK, lambda a, b: b.body["count"] > 3, without=("prompt",)),
    "add_special_tokens": Effect(
        {"add_special_tokens": False}, lambda a, b: b.body["count"] <= a.body["count"]
    ),
    "add_generation_prompt": Effect(
        {"add_generation_prompt": False}, lambda a, b: b.body["count"] < a.body["count"], TALK, ("prompt",)
    ),
    "return_token_strs": Effect(
        {"return_token_strs": True},
        lambda a, b: len(b.body["token_strs"]) == b.body["count"] and a.body["token_strs"] is None,
    ),
    "chat_template_kwargs": Effect(
        {"chat_template_kwargs": {"mood": "merry"}},
        lambda a, b: b.body["count"] > a.body["count"],
        TALK,
        ("prompt",),
    ),
    "tools": Effect({"tools": TOOLS}, lambda a, b: b.body["count"] > a.body["count"], TALK, ("prompt",)),
}
DETOKENIZE: dict[str, Effect] = {
    "model": Effect({"model": "nobody"}, lambda a, b: b.status == 404),
    "tokens": Effect({"tokens": [260]}, lambda a, b: a.body["prompt"].startswith(b.body["prompt"])),
}
EFFECTS = {
    COMPLETIONS: BOTH | COMPLETION,
    CHAT: BOTH | CHATS,
    "/tokenize": TOKENIZE,
    "/detokenize": DETOKENIZE,
}


@pytest.fixture(scope="module")
def engine() -> ReferenceEngine:
    return ReferenceEngine()


@pytest.fixture(scope="module")
def app(engine: ReferenceEngine, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """With a template that knows one variable more."""
    directory = tmp_path_factory.mktemp("text")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json"):
        shutil.copy(demo_path() / name, directory)
    template = (demo_path() / "chat_template.jinja").read_text()
    (directory / "chat_template.jinja").write_text(template + "{{ mood }}")
    return make_app(engine, Text.load(directory), ApiSettings(served_model_names=("fake", "other")))


async def ask(engine: ReferenceEngine, app: FastAPI, path: str, body: Json) -> Said:
    """The answer, which is as the schema says."""
    engine.opened.clear()
    engine.affinities.clear()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://router") as http:
        answer = await http.post(path, json=body)
    told = app.openapi()
    if answer.headers["content-type"] != "application/json":
        return Said(answer.status_code, {}, engine, answer.text)
    responses = told["paths"][path]["post"]["responses"]
    response = responses["200" if answer.status_code == 200 else "4XX"]
    schema = response["content"]["application/json"]["schema"]
    jsonschema_rs.Draft202012Validator({**schema, "components": told["components"]}).validate(answer.json())
    return Said(answer.status_code, answer.json(), engine, answer.text)


@pytest.mark.parametrize("path", EFFECTS)
def test_every_parameter_has_a_case(path: str) -> None:
    fields = {each.alias or name for name, each in MODELS[path].model_fields.items()}
    assert EFFECTS[path].keys() == fields


@pytest.mark.parametrize(("path", "name"), [(path, name) for path in EFFECTS for name in EFFECTS[path]])
async def test_a_parameter_does_what_it_says(
    engine: ReferenceEngine, app: FastAPI, path: str, name: str
) -> None:
    effect = EFFECTS[path][name]
    body = {key: value for key, value in BODY[path].items() if key not in effect.without} | effect.base
    before = await ask(engine, app, path, body) if name != "messages" or path != "/tokenize" else None
    after = await ask(engine, app, path, body | effect.extra)
    assert effect.seen(before or after, after), (before and before.text, after.text)
