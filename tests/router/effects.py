"""What a parameter does: a request without it and with it, and how one tells. For all endpoints.

The answers come from the demo model's own logits.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
from fastapi import FastAPI

from router.api_fakes import shelf_of
from router.reference_engine import ReferenceEngine
from xpod.router.api import ApiSettings, make_app
from xpod.router.api.engine_protocol import Affinity
from xpod_model.demo import demo_path
from xpod_model.text import Text
from xpod_runtime.local_store import LocalStore, Shelf

Json = dict[str, Any]


class Said:
    """An answer, and what the engine was told."""

    def __init__(self, status: int, body: Any, engine: ReferenceEngine, text: str) -> None:
        self.status, self.body, self.text = status, body, text
        self.prompts = [prompt for prompt, _ in engine.opened]
        self.affinity = engine.affinities[-1] if engine.affinities else Affinity()

    @property
    def choices(self) -> list[Json]:
        """Of a response, its output as if it were one."""
        return [self._output()] if self.body.get("object") == "response" else list(self.body["choices"])

    def _output(self) -> Json:
        parts = [part for item in self.body["output"] for part in item.get("content", ())]
        calls = [
            {"function": {"name": item["name"], "arguments": item["arguments"]}}
            for item in self.body["output"]
            if item["type"] == "function_call"
        ]
        finish = "length" if self.body["status"] == "incomplete" else "stop"
        ids = {name: each for name, each in self.body["xpod"].items() if name == "token_ids"}
        text = "".join(part["text"] for part in parts)
        return {"text": text, "message": {"tool_calls": calls}, "finish_reason": finish, **ids}

    @property
    def ids(self) -> list[int]:
        return [int(each) for each in self.choices[0]["token_ids"]]

    @property
    def said(self) -> str:
        choice = self.choices[0]
        return str(choice["text"] if "text" in choice else choice["message"]["content"])


@dataclass
class Effect:
    """`extra` (which may need the first answer) and what it makes of the answer; `base` is in both requests."""

    extra: Json | Callable[[Said], Json]
    seen: Callable[[Said, Said], object]
    base: Json = field(default_factory=dict)
    without: tuple[str, ...] = ()


def distinct(said: Said) -> int:
    return len(set(said.ids))


def is_look(said: Said) -> bool:
    (call,) = said.choices[0]["message"]["tool_calls"]
    return call["function"]["name"] == "look" and set(json.loads(call["function"]["arguments"])) == {"x"}


def effects_app(engine: ReferenceEngine, directory: Path) -> FastAPI:
    """With a template that knows one variable more."""
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json"):
        shutil.copy(demo_path() / name, directory)
    template = (demo_path() / "chat_template.jinja").read_text()
    (directory / "chat_template.jinja").write_text(template + "{{ mood }}")
    settings = ApiSettings(served_model_names=("fake", "other"))
    return make_app(engine, Text.load(directory), settings, shelf=shelf_of(LocalStore(Shelf()), "router-0"))


async def ask(engine: ReferenceEngine, app: FastAPI, path: str, body: Json) -> Said:
    """The answer, which is as the schema says."""
    engine.opened.clear()
    engine.affinities.clear()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://router") as http:
        answer = await http.post(path, json=body)
    told = app.openapi()
    content = told["paths"][path]["post"]["responses"]["200" if answer.status_code == 200 else "4XX"][
        "content"
    ]
    if answer.headers["content-type"] != "application/json":
        check_events(answer.text, content["text/event-stream"]["schema"]["x-event-schema"], told)
        return Said(answer.status_code, {}, engine, answer.text)
    conforms(answer.json(), content["application/json"]["schema"], told)
    return Said(answer.status_code, answer.json(), engine, answer.text)


def check_events(text: str, schema: Json, told: Json) -> None:
    """Each event's data is as the schema says."""
    frames = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    found = [json.loads(frame) for frame in frames if frame != "[DONE]"]
    assert found
    for each in found:
        conforms(each, schema, told)


def conforms(found: Any, schema: Json, told: Json) -> None:
    jsonschema_rs.Draft202012Validator({**schema, "components": told["components"]}).validate(found)


async def seen(engine: ReferenceEngine, app: FastAPI, path: str, usual: Json, effect: Effect) -> None:
    """Ask without the parameter and with it. Fails where that makes no difference, or another one."""
    body = {key: value for key, value in usual.items() if key not in effect.without} | effect.base
    before = await ask(engine, app, path, body)
    extra = effect.extra(before) if callable(effect.extra) else effect.extra
    after = await ask(engine, app, path, body | extra)
    assert effect.seen(before, after), (before.text, after.text)


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
