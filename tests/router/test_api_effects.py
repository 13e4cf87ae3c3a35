"""Every parameter does what /openapi.json says of it, with the demo model's own logits.

The table has a case for each field of the request models: a new field without one fails.
"""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from router.api_fakes import CHAT, COMPLETIONS
from router.effects import BOTH, TALK, TOOLS, Effect, Json, effects_app, is_look, seen
from router.reference_engine import ReferenceEngine
from xpod.router.api.requests import ChatRequest, CompletionRequest
from xpod.router.api.token_routes import DetokenizeRequest, TokenizeRequest

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
    return effects_app(engine, tmp_path_factory.mktemp("text"))


@pytest.mark.parametrize("path", EFFECTS)
def test_every_parameter_has_a_case(path: str) -> None:
    fields = {each.alias or name for name, each in MODELS[path].model_fields.items()}
    assert EFFECTS[path].keys() == fields


@pytest.mark.parametrize(("path", "name"), [(path, name) for path in EFFECTS for name in EFFECTS[path]])
async def test_a_parameter_does_what_it_says(
    engine: ReferenceEngine, app: FastAPI, path: str, name: str
) -> None:
    await seen(engine, app, path, BODY[path], EFFECTS[path][name])
