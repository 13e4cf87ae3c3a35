"""What a node does for a request, as spans: one for each call that comes with a trace.

Knows: how many blocks a call is about. Does not know: what becomes of them.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from xpod_proto import Message
from xpod_runtime.actor import Actor

A = TypeVar("A", bound=Actor)
M = TypeVar("M", bound=Message)
Method = Callable[[A, M], Awaitable[Message]]


def traced(name: str) -> Callable[[Method[A, M]], Method[A, M]]:
    """Marks a handler whose calls are spans of that name."""

    def mark(method: Method[A, M]) -> Method[A, M]:
        @functools.wraps(method)
        async def handle(actor: A, message: M) -> Message:
            with actor.tracer.span(name, blocks=_blocks(message)):
                return await method(actor, message)

        return handle

    return mark


def _blocks(message: Any) -> int:
    """How many it names or brings."""
    found = next(getattr(message, field) for field in ("names", "blocks", "parts") if hasattr(message, field))
    return len(found)
