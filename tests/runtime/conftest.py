"""Brokers and buses for the runtime's tests: each test gets two or more connected buses of either kind."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from runtime.secure import ALL, SecureBroker, secure_server
from xpod_runtime.broker import Broker
from xpod_runtime.broker_config import BrokerConfig
from xpod_runtime.bus import Bus, Handler, Subscription
from xpod_runtime.frames import Frames
from xpod_runtime.local_bus import LocalBus, LocalFabric
from xpod_runtime.nats_bus import NatsBus
from xpod_runtime.receiving import Limits

MakeBus = Callable[..., Awaitable[Bus]]


@pytest.fixture
def frames_directory() -> Iterator[Path]:
    """A directory in memory for frames."""
    with tempfile.TemporaryDirectory(prefix="xpod-test-", dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """One real nats-server for all tests that do not hurt it."""
    with tempfile.TemporaryDirectory(prefix="xpod-nats-") as folder:
        broker = Broker(BrokerConfig(name="shared", data_dir=Path(folder), jetstream=False))
        broker.start()
        try:
            asyncio.run(broker.wait_ready())
            yield broker.url
        finally:
            broker.kill()


@pytest.fixture(scope="session")
def secure_broker() -> Iterator[SecureBroker]:
    """One for all tests that do not hurt it; its user may do everything in the pod's account."""
    with (
        tempfile.TemporaryDirectory(prefix="xpod-nats-") as folder,
        secure_server(Path(folder), ALL) as secure,
    ):
        yield secure


class NearBus(NatsBus):
    """A bus whose messages are frames, however small: who subscribes is met by all of `others`."""

    others: list[Bus]

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> Subscription:
        for other in self.others:
            other.meet(subject, self.frames)
        return await super().subscribe(subject, handler, queue=queue)


@pytest_asyncio.fixture(params=["local", "nats", "frames", "secure"])
async def make_bus(
    request: pytest.FixtureRequest, nats_url: str, secure_broker: SecureBroker, frames_directory: Path
) -> AsyncIterator[MakeBus]:
    """Makes buses that hear one another, by name; `payload_limit` and `limits` as in the constructors."""
    fabric = LocalFabric()
    made: list[Bus] = []

    async def make(name: str = "bus", *, payload_limit: int = 0, limits: Limits | None = None) -> Bus:
        bus: Bus
        if request.param == "nats":
            bus = await NatsBus.connect(nats_url, name, wait=10, payload_limit=payload_limit, limits=limits)
        elif request.param == "secure":
            bus = await NatsBus.connect(
                secure_broker.url,
                name,
                wait=10,
                payload_limit=payload_limit,
                limits=limits,
                credentials=secure_broker.credentials,
            )
        elif request.param == "frames":
            frames = Frames(frames_directory, least=1)
            bus = await NearBus.connect(
                nats_url, name, wait=10, payload_limit=payload_limit, limits=limits, frames=frames
            )
            assert isinstance(bus, NearBus)
            bus.others = made
        else:
            bus = LocalBus(fabric, name, payload_limit=payload_limit, limits=limits)
        made.append(bus)
        return bus

    yield make
    for bus in made:
        await bus.close()
