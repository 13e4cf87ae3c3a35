"""/openapi.json: what the routes say of themselves, and what they cannot: streams, keys, headers.

Knows: OpenAPI 3.1. Does not know: how anything is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from xpod.router.api.answers import ChatChunk, CompletionChunk
from xpod.router.api.errors import ErrorBody
from xpod.router.api.operation_routes import OPEN_PATHS
from xpod.router.api.responses.answers import ResponseEvent

REFS = "#/components/schemas/{model}"
CHUNKS: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatChunk,
    "/v1/completions": CompletionChunk,
}
TOLD_IN_EVENTS = {("/v1/responses", "post"), ("/v1/responses/{response_id}", "get")}
HEADERS = {
    "Idempotency-Key": (
        "A request that is repeated with the same key is answered, not run again.",
        {"type": "string", "minLength": 1, "maxLength": 255},
    ),
    "Last-Event-ID": (
        "The id of the last event of a stream that broke: it goes on behind it.",
        {"type": "string"},
    ),
    "X-Keep-Alive": (
        "Seconds of silence in a stream until a comment is sent; fewer than usual.",
        {"type": "string"},
    ),
}
ABOUT_KEYS = "One of the router's API keys; a router without any asks for none."
REQUEST_ID = {
    "description": "The request's own x-request-id, or one that was made for it.",
    "schema": {"type": "string"},
}
RETRY = {
    "description": "With 408, 429 and 503: seconds until another try makes sense.",
    "schema": {"type": "integer"},
}
_LEFT = {
    "limit": ("How many a minute this key may ask for.", "integer"),
    "remaining": ("How many are left now.", "integer"),
    "reset": ("Until all are there again, such as `1.5s`.", "string"),
}
RATE_LIMITS: dict[str, Any] = {"Retry-After": RETRY} | {
    f"x-ratelimit-{what}-{of}": {
        "description": f"Where the key has a limit of {of}. {text}",
        "schema": {"type": kind},
    }
    for of in ("requests", "tokens")
    for what, (text, kind) in _LEFT.items()
}


def describe(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """The application's `openapi`, made once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    return openapi


def _described(app: FastAPI) -> dict[str, Any]:
    told = get_openapi(title=app.title, version=app.version, routes=app.routes, summary=app.summary)
    models = [(each, "serialization") for each in (*CHUNKS.values(), ResponseEvent, ErrorBody)]
    _, events = models_json_schema(models, ref_template=REFS)  # type: ignore[arg-type]
    told["components"]["schemas"] |= events["$defs"]
    told["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": ABOUT_KEYS}
    }
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            if path not in OPEN_PATHS:
                operation["security"] = [{"key": []}, {}]
            limited = RATE_LIMITS if "requestBody" in operation else {}
            for response in operation["responses"].values():
                response["headers"] = {"x-request-id": REQUEST_ID, **limited}
            if path in CHUNKS:
                _add_chunks(operation, CHUNKS[path].__name__)
            if (path, method) in TOLD_IN_EVENTS:
                _add_events(operation)
    return told


def _add_chunks(operation: dict[str, Any], chunk: str) -> None:
    _add_stream(
        operation,
        f"Events whose data is a {chunk}, and at the end `[DONE]`. A failure is an event whose data is an ErrorBody, "
        "and then there is no `[DONE]`. Comments fill silences. Where there is one choice, an event's id names the "
        "place to go on from.",
        {"oneOf": [{"$ref": REFS.format(model=each)} for each in (chunk, ErrorBody.__name__)]},
        HEADERS,
    )


def _add_events(operation: dict[str, Any]) -> None:
    headers = [name for name in HEADERS if name != "Last-Event-ID"]
    if "requestBody" not in operation:
        headers.remove("Idempotency-Key")
    _add_stream(
        operation,
        "Events, each with its type as its name and a ResponseEvent as its data; the last one says how it ended. "
        "Comments fill silences. `starting_after` of the GET names the event to go on behind.",
        {"$ref": REFS.format(model=ResponseEvent.__name__)},
        headers,
    )


def _add_stream(
    operation: dict[str, Any], description: str, event: dict[str, Any], headers: Iterable[str]
) -> None:
    told = {"type": "string", "description": description, "x-event-schema": event}
    operation["responses"]["200"]["content"]["text/event-stream"] = {"schema": told}
    operation.setdefault("parameters", []).extend(
        {"name": name, "in": "header", "required": False, "description": text, "schema": schema}
        for name, (text, schema) in HEADERS.items()
        if name in headers
    )
