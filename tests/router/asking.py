"""Requests to a scripted engine, and what comes back."""

from __future__ import annotations

import json
from typing import Any

from router.api_fakes import FakeEngine, post


async def whole(engine: FakeEngine, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await post(engine, path, body)
    assert answer.status_code == 200, answer.text
    parsed: dict[str, Any] = answer.json()
    return parsed


async def events(engine: FakeEngine, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of a stream that ends with [DONE]."""
    answer = await post(engine, path, {"stream": True} | body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    frames = [frame.split("\n")[-1].removeprefix("data: ") for frame in answer.text.split("\n\n")[:-1]]
    assert frames[-1] == "[DONE]"
    return [json.loads(frame) for frame in frames[:-1]]


def text_of(chunks: list[dict[str, Any]], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(c["text"] if "text" in c else c["delta"].get("content", "") for c in choices)
