"""Two buses that talk to each other."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

from xpod_proto import FetchBlocks, Message
from xpod_runtime.bus import Bus

MakeBus = Callable[..., Awaitable[Bus]]


def fresh() -> str:
    """A subject prefix of this test's own: the nats-server is shared."""
    return f"t{uuid.uuid4().hex[:12]}"


def large(size: int) -> FetchBlocks:
    """A message of about `size` bytes whose pieces all differ."""
    block = b"".join(number.to_bytes(4, "big") for number in range(size // 4))
    return FetchBlocks((block,))


async def echo(message: Message) -> Message:
    return message


async def pair(make_bus: MakeBus, **options: object) -> tuple[Bus, Bus]:
    return await make_bus("asker", **options), await make_bus("server", **options)


async def listen(
    bus: Bus, subject: str, handler: Callable[[Message], Awaitable[Message | None]], queue: str = ""
) -> None:
    await bus.subscribe(subject, handler, queue=queue)
    await bus.flush()
