"""Routers that share what is kept of responses, each with the official client in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import openai

from router.api_fakes import FakeEngine, shelf_of
from router.test_api_server import client
from xpod_runtime.local_store import LocalStore, Shelf

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
ADD = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": False}


@asynccontextmanager
async def routers(
    *engines: FakeEngine, store: Shelf | None = None, **settings: Any
) -> AsyncIterator[list[openai.AsyncOpenAI]]:
    """A client of each router."""
    kept = store or Shelf()
    async with AsyncExitStack() as stack:
        found = []
        for number, engine in enumerate(engines):
            shelf = shelf_of(LocalStore(kept), f"router-{number}")
            found.append(await stack.enter_async_context(client(engine, shelf=shelf, **settings)))
        yield found


async def events_of(stream: Any) -> list[Any]:
    """All of them, as plain objects."""
    return [event.model_dump(mode="json", exclude_unset=True) async for event in stream]


def kinds(events: list[Any]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]
