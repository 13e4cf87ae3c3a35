"""Helpers for tests that need a real broker or want to wait for messages.

Knows: brokers, buses, events. Does not know: pytest, or any service.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from xpod_proto import Message
from xpod_runtime.broker import Broker, free_ports
from xpod_runtime.broker_config import BrokerConfig, cluster_configs

LIMIT = 10.0
"""Seconds that any wait in a test may take."""


def hang(pid: int) -> None:
    """SIGSTOP for a child of this process; returns when all of its threads have stopped, which may take a while."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


@asynccontextmanager
async def running_broker(
    data_dir: Path, *, jetstream: bool = False, name: str = "test"
) -> AsyncIterator[Broker]:
    """A ready nats-server on a free port; killed at the end."""
    broker = Broker(BrokerConfig(name=name, data_dir=data_dir, jetstream=jetstream))
    broker.start()
    try:
        await broker.wait_ready()
        yield broker
    finally:
        broker.kill()


@asynccontextmanager
async def running_cluster(data_dir: Path, count: int) -> AsyncIterator[list[Broker]]:
    """Ready nats-servers with JetStream that know one another; killed at the end."""
    configs = cluster_configs(count, data_dir, route_ports=free_ports(count))
    brokers = [Broker(config) for config in configs]
    try:
        for broker in brokers:
            broker.start()
        await asyncio.gather(*(broker.wait_ready() for broker in brokers))
        yield brokers
    finally:
        for broker in brokers:
            broker.kill()


class Recorder:
    """A handler that keeps what it gets; `answer` makes the answer to each message."""

    def __init__(self, answer: Callable[[Message], Message | None] = lambda message: None) -> None:
        self.messages: list[Message] = []
        self._answer = answer
        self._arrived = asyncio.Condition()

    async def __call__(self, message: Message) -> Message | None:
        async with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()
        return self._answer(message)

    async def wait(self, count: int = 1) -> list[Message]:
        """Returns the messages once there are at least `count`."""
        async with asyncio.timeout(LIMIT), self._arrived:
            await self._arrived.wait_for(lambda: len(self.messages) >= count)
        return self.messages


class Flag:
    """A callback that can be waited for."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def __call__(self, *_: object) -> None:
        self._event.set()

    async def wait(self) -> None:
        async with asyncio.timeout(LIMIT):
            await self._event.wait()

    def __bool__(self) -> bool:
        return self._event.is_set()
