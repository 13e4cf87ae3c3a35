"""What an answer has to be like becomes a grammar, or a refusal that names the parameter."""

from __future__ import annotations

from typing import Any

import pytest

from router.api_fakes import CHAT, COMPLETIONS, HI, FakeEngine, says
from router.test_api_requests import client
from xpod_model.grammar import of_choice, of_json, of_lark, of_regex

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def json_schema(**more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA, **more}}


ASKED: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, ""),
    "text": ({"response_format": {"type": "text"}}, ""),
    "null": ({"response_format": None, "structured_outputs": None}, ""),
    "any object": ({"response_format": {"type": "json_object"}}, of_json({"type": "object"})),
    "a schema": ({"response_format": json_schema()}, of_json(SCHEMA)),
    "a strict schema": (
        {"response_format": json_schema(strict=True, description="of mine")},
        of_json(SCHEMA),
    ),
    "vLLM's json": ({"structured_outputs": {"json": SCHEMA}}, of_json(SCHEMA)),
    "any JSON": ({"structured_outputs": {"json": {}}}, of_json({})),
    "vLLM's object": ({"structured_outputs": {"json_object": True}}, of_json({"type": "object"})),
    "vLLM's regex": ({"structured_outputs": {"regex": "a+"}}, of_regex("a+")),
    "vLLM's choice": ({"structured_outputs": {"choice": ["a", "b"]}}, of_choice(["a", "b"])),
    "vLLM's grammar": ({"structured_outputs": {"grammar": 'start: "a"'}}, of_lark('start: "a"')),
}


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("name", ASKED)
async def test_workers_are_told_the_grammar(path: str, name: str) -> None:
    extra, grammar = ASKED[name]
    engine = FakeEngine(*says("ok"))
    body = HI if path == CHAT else {"prompt": "hi"}
    async with client(engine) as http:
        answer = await http.post(path, json=body | {"max_tokens": 4} | extra)
    assert answer.status_code == 200, answer.text
    assert engine.opened[0][1].grammar == grammar


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no such type": ({"response_format": {"type": "yaml"}}, "response_format", "yaml"),
    "no type": ({"response_format": {}}, "response_format", "type"),
    "no schema": ({"response_format": {"type": "json_schema"}}, "response_format", "required"),
    "a schema that is none": (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "integr"}},
            }
        },
        "response_format",
        "integr",
    ),
    "an open bracket": ({"structured_outputs": {"regex": "(a"}}, "structured_outputs", "regex"),
    "two at once": (
        {"structured_outputs": {"regex": "a", "choice": ["a"]}},
        "structured_outputs",
        "one of json",
    ),
    "none at all": ({"structured_outputs": {}}, "structured_outputs", "one of json"),
    "no choice": ({"structured_outputs": {"choice": []}}, "structured_outputs", "at least 1"),
    "an unknown way": ({"structured_outputs": {"yaml": 1}}, "structured_outputs", "yaml"),
    "both parameters": (
        {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
        "structured_outputs",
        "exclude",
    ),
    "no end": ({"structured_outputs": {"regex": "a"}, "ignore_eos": True}, "ignore_eos", "exclude"),
    "a least length": ({"structured_outputs": {"regex": "a"}, "min_tokens": 3}, "min_tokens", "exclude"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refusals_name_the_parameter(name: str) -> None:
    extra, param, why = REFUSED[name]
    engine = FakeEngine(*says("ok"))
    async with client(engine) as http:
        answer = await http.post(CHAT, json=HI | extra)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["param"] or "").startswith(param), error
    assert why in error["message"], error
    assert not engine.opened
