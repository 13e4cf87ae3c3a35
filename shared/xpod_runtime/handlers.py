"""Typed handlers: which method of a class takes which message.

Knows: message types and methods. Does not know: the bus, or an actor's life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from xpod_proto import Message
from xpod_runtime.bus import Handler
from xpod_runtime.errors import Busy, XpodError

F = TypeVar("F", bound=Callable[..., Awaitable[Message | None]])
_MARK = "__xpod_handles__"


class Unhandled(XpodError):
    """The receiver has no handler for this type of message."""

    code = "unhandled"


def handles(*types: type[Message]) -> Callable[[F], F]:
    """Marks `async def method(self, message) -> Message | None` as the handler of these message types."""

    def mark(method: F) -> F:
        setattr(method, _MARK, types)
        return method

    return mark


def handlers_of(instance: object) -> dict[type[Message], Handler]:
    """The marked methods of `instance`, by message type; a subclass's method wins over its base's."""
    found: dict[type[Message], Handler] = {}
    for cls in reversed(type(instance).__mro__):
        for name, method in vars(cls).items():
            types: tuple[type[Message], ...] = getattr(method, _MARK, ())
            found.update(dict.fromkeys(types, getattr(instance, name)))
    return found


class Mailbox:
    """Gives messages to handlers, at most `capacity` at once; what is over is refused with Busy, and counted."""

    def __init__(self, owner: str, handlers: dict[type[Message], Handler], capacity: int) -> None:
        self._owner = owner
        self._handlers = handlers
        self._capacity = capacity
        self.running = 0
        self.refused = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def knows(self, message: Message) -> bool:
        return type(message) in self._handlers

    async def __call__(self, message: Message) -> Message | None:
        handler: Callable[[Any], Awaitable[Message | None]] | None = self._handlers.get(type(message))
        if handler is None:
            raise Unhandled(f"{self._owner} does not take {type(message).__name__}")
        if self.running >= self._capacity:
            self.refused += 1
            raise Busy(f"{self._owner} works on {self.running} messages")
        self.running += 1
        self._idle.clear()
        try:
            return await handler(message)
        finally:
            self.running -= 1
            if self.running == 0:
                self._idle.set()

    async def idle(self) -> None:
        """Returns once no handler runs."""
        await self._idle.wait()
