"""docs/api.md names every field that the code accepts or refuses by name, every error code, and every path."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel

from router.api_fakes import FakeEngine, app_of
from xpod.router.api import errors
from xpod.router.api.embedding_routes import EmbeddingsRequest
from xpod.router.api.grammar import JsonObjectFormat, JsonSchema, JsonSchemaFormat, StructuredOutputs
from xpod.router.api.messages import CalledFunction, ChatMessage, TextPart, ToolCall
from xpod.router.api.requests import ChatRequest, CompletionRequest, StreamOptions
from xpod.router.api.responses.items import CallItem, InputPart, MessageItem, OutputItem
from xpod.router.api.responses.request import (
    FunctionChoice,
    FunctionTool,
    JsonSchemaText,
    ResponsesRequest,
    TextOptions,
)
from xpod.router.api.token_routes import DetokenizeRequest, TokenizeRequest
from xpod.router.api.tools import Function, FunctionOfName, NamedTool, Tool
from xpod.router.api.trace_routes import Traces, trace_routes

ROOT = Path(__file__).parents[2]
API = (ROOT / "docs" / "api.md").read_text()
SOURCES = sorted((ROOT / "services/xpod/router").rglob("*.py"))
BOTH = "What both completion endpoints take"
MODELS: list[tuple[tuple[str, ...], tuple[type[BaseModel], ...]]] = [
    (
        (BOTH, "POST /v1/chat/completions"),
        (
            ChatRequest,
            ChatMessage,
            TextPart,
            ToolCall,
            CalledFunction,
            Tool,
            Function,
            NamedTool,
            FunctionOfName,
        ),
    ),
    (
        (BOTH, "POST /v1/completions"),
        (CompletionRequest, StreamOptions, StructuredOutputs, JsonObjectFormat, JsonSchemaFormat, JsonSchema),
    ),
    (
        ("POST /v1/responses",),
        (
            ResponsesRequest,
            MessageItem,
            CallItem,
            OutputItem,
            InputPart,
            TextOptions,
            JsonSchemaText,
            FunctionTool,
            FunctionChoice,
        ),
    ),
    (("POST /tokenize and /detokenize",), (TokenizeRequest, DetokenizeRequest)),
    (("POST /v1/embeddings",), (EmbeddingsRequest,)),
]


def section(heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", API, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def names(model: type[BaseModel]) -> Iterable[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


CASES = [(headings, model) for headings, models in MODELS for model in models]


@pytest.mark.parametrize(("headings", "model"), CASES, ids=[model.__name__ for _, model in CASES])
def test_every_field_is_there(headings: tuple[str, ...], model: type[BaseModel]) -> None:
    text = "".join(map(section, headings))
    missing = [name for name in names(model) if not re.search(rf"[`\"{{ ]{name}[`\":]", text)]
    assert not missing


@pytest.mark.parametrize("model", [ChatRequest, CompletionRequest, ResponsesRequest])
def test_every_field_that_is_refused_by_name_is_there(model: type[ChatRequest]) -> None:
    headings = {
        ChatRequest: (BOTH, "POST /v1/chat/completions"),
        CompletionRequest: (BOTH, "POST /v1/chat/completions", "POST /v1/completions"),
        ResponsesRequest: ("POST /v1/responses",),
    }[model]
    text = "".join(map(section, headings))
    assert [name for name in model.neutral if f"`{name}`" not in text] == []


def test_every_path_is_there() -> None:
    routes = [*app_of(FakeEngine()).routes, *trace_routes(cast(Traces, None)).routes]
    paths = {route.path for route in routes if isinstance(route, APIRoute)}
    paths -= {"/v1/models/{name:path}"}
    told = API.replace("{id}", "{response_id}")
    assert [path for path in sorted(paths) if path not in told] == []


def test_every_error_code_is_there() -> None:
    text = section("Errors")
    code = re.compile(r'code="([a-z_]+)"|code = "([a-z_]+)"|SessionError\(\s*"([a-z_]+)"')
    found = {word for path in SOURCES for match in code.findall(path.read_text()) for word in match if word}
    found |= {*errors.SESSION_ERRORS, *errors.REFUSED_BY_WORKERS}
    unsaid = {"cancelled", "port_taken"}  # a status; the process does not start
    assert {"overloaded", "not_ready", "worker_lost", "incomplete"} & found
    assert [code for code in sorted(found - unsaid) if f"`{code}`" not in text] == []
