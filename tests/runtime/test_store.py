"""Both stores keep the same promises; the real one keeps them while NATS nodes die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from xpod_proto import Ack
from xpod_runtime.bus import Bus
from xpod_runtime.errors import StoreError
from xpod_runtime.local_bus import LocalBus, LocalFabric
from xpod_runtime.nats_bus import NatsBus
from xpod_runtime.store import Bounds, Store
from xpod_runtime.testing import running_broker, running_cluster

LIFETIME = 60.0
MakeStore = Callable[[], Store]


@pytest_asyncio.fixture(params=["local", "nats"])
async def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeStore]:
    """Ways to one store, each as another member would have it."""
    if request.param == "local":
        fabric = LocalFabric()
        yield lambda: LocalBus(fabric, "member").store("things", lifetime=LIFETIME)
        return
    async with running_broker(tmp_path, jetstream=True) as broker:
        buses: list[Bus] = [await NatsBus.connect(broker.url, name, wait=10) for name in ("one", "two")]
        unused = list(buses)
        yield lambda: unused.pop().store("things", lifetime=LIFETIME)
        for bus in buses:
            await bus.close()


async def test_what_one_member_writes_another_reads(make_store: MakeStore) -> None:
    mine, yours = make_store(), make_store()
    assert await yours.get("a.b") is None
    await mine.put("a.b", Ack("one"))
    await mine.put("a.b", Ack("two"))
    found = await yours.get("a.b")
    assert found is not None
    assert found.message == Ack("two")


async def test_of_two_who_claim_one_gets_it(make_store: MakeStore) -> None:
    mine, yours = make_store(), make_store()
    claims = await asyncio.gather(mine.claim("leader", Ack("m"), 0), yours.claim("leader", Ack("y"), 0))
    (revision,) = [claim for claim in claims if claim is not None]
    assert await yours.claim("leader", Ack("late"), revision + 7) is None
    renewed = await mine.claim("leader", Ack("again"), revision)
    assert renewed is not None
    found = await yours.get("leader")
    assert found is not None
    assert (found.message, found.revision) == (Ack("again"), renewed)
    assert renewed > revision


async def test_keys_below_a_prefix_are_read_and_dropped_together(make_store: MakeStore) -> None:
    store = make_store()
    for key in ("s1.facts", "s1.0", "s1.1", "s10.0", "s2.0"):
        await store.put(key, Ack(key))
    assert await store.below("s1") == {"facts": Ack("s1.facts"), "0": Ack("s1.0"), "1": Ack("s1.1")}
    assert await store.below("s3") == {}
    await store.drop("s1")
    assert await store.below("s1") == {}
    assert await store.below("s10") == {"0": Ack("s10.0")}
    assert await store.get("s2.0") is not None


async def test_what_changes_while_it_is_read_is_there_or_not(make_store: MakeStore) -> None:
    """And over a thousand times: JetStream keeps that many consumers at most, were there one each time."""
    mine, yours = make_store(), make_store()
    written = {f"{number}": Ack(f"{number}") for number in range(3)}

    async def write() -> None:
        while True:
            for key, message in written.items():
                await mine.put(f"s1.{key}", message)
            await mine.drop("s1")

    writing = asyncio.create_task(write())
    for _ in range(1100):
        assert (await yours.below("s1")).items() <= written.items()
    writing.cancel()


async def test_a_bounded_store_forgets_what_is_oldest(tmp_path: Path) -> None:
    """Other bounds count from their first use on, also for a bucket that is there."""
    async with running_broker(tmp_path, jetstream=True) as broker:
        bus = await NatsBus.connect(broker.url, "one", wait=10)
        notes = [Ack(str(number)) for number in range(6)]

        async def left(bounds: Bounds) -> list[bool]:
            store = bus.store("things", lifetime=LIFETIME, bounds=bounds)
            return [await store.get(f"a{number}.b") is not None for number in range(6)]

        store = bus.store("things", lifetime=LIFETIME, bounds=Bounds(keys=4, bytes=1 << 20))
        for number, note in enumerate(notes):
            await store.put(f"a{number}.b", note)
        assert await left(Bounds(keys=4, bytes=1 << 20)) == [False] * 2 + [True] * 4
        assert await left(Bounds(keys=3, bytes=1 << 20)) == [False] * 3 + [True] * 3
        large = bus.store("large", lifetime=LIFETIME, bounds=Bounds(keys=100, bytes=1 << 20))
        for number in range(4):
            await large.put(f"a{number}.b", Ack("x" * 400_000))
        assert [await large.get(f"a{number}.b") is not None for number in range(4)] == [False] * 2 + [
            True
        ] * 2
        await bus.close()


async def test_without_jetstream_a_store_says_so(tmp_path: Path) -> None:
    async with running_broker(tmp_path, jetstream=False) as broker:
        bus = await NatsBus.connect(broker.url, "one", wait=10)
        with pytest.raises(StoreError):
            await bus.store("things", lifetime=LIFETIME).put("a", Ack())
        await bus.close()


async def test_what_is_written_survives_the_server(tmp_path: Path) -> None:
    async with running_broker(tmp_path, jetstream=True) as broker:
        bus = await NatsBus.connect(broker.url, "one", wait=10)
        store = bus.store("things", lifetime=LIFETIME)
        await store.put("a", Ack("kept"))
        broker.kill()
        with pytest.raises(StoreError):
            await store.put("a", Ack("lost"))
        broker.start()
        await broker.wait_ready()
        assert await _when_it_answers(store, "a") == Ack("kept")
        await bus.close()


@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_three_nodes_lose_one_and_keep_what_was_written(tmp_path: Path, victim: int) -> None:
    """Leader and followers: whoever dies, it answers again after an election."""
    async with running_cluster(tmp_path, 3) as brokers:
        urls = [broker.url for broker in brokers]
        bus = await NatsBus.connect([*urls[victim:], *urls[:victim]], "one", wait=10)
        store = bus.store("things", lifetime=LIFETIME)
        await _until_written(store, "a", Ack("kept"))
        assert await store.leader() in {broker.config.name for broker in brokers}
        brokers[victim].kill()
        await _until_written(store, "b", Ack("more"))
        assert await _when_it_answers(store, "a") == Ack("kept")
        await bus.close()


async def _until_written(store: Store, key: str, message: Ack) -> None:
    """A cluster that elects a leader takes seconds."""
    async with asyncio.timeout(40):
        while True:
            try:
                return await store.put(key, message)
            except StoreError:
                await asyncio.sleep(0.1)


async def _when_it_answers(store: Store, key: str) -> object:
    async with asyncio.timeout(40):
        while True:
            try:
                found = await store.get(key)
            except StoreError:
                await asyncio.sleep(0.1)
            else:
                return None if found is None else found.message
