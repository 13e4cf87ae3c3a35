"""What only a real server shows: it dies, it comes back, it is not there yet."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop

from xpod_proto import Ack, FetchBlocks, Message
from xpod_runtime.broker import Broker, free_ports
from xpod_runtime.broker_access import DISCONNECTS
from xpod_runtime.broker_config import BrokerConfig, cluster_configs
from xpod_runtime.errors import BusError, Disconnected, NoResponders
from xpod_runtime.nats_bus import NatsBus
from xpod_runtime.testing import LIMIT, Flag, Recorder, hang, running_broker, running_cluster


@pytest_asyncio.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with running_broker(tmp_path) as running:
        yield running


async def echo(message: Message) -> Message:
    return message


async def revive(broker: Broker) -> None:
    broker.start()
    await broker.wait_ready()


async def request_until_served(bus: NatsBus, subject: str) -> Message:
    """What every caller does: try again while nobody is there."""
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                return await bus.request(subject, Ack("again"), timeout=LIMIT)
            except (NoResponders, Disconnected):
                await asyncio.sleep(0.01)


async def test_a_killed_server_fails_requests_at_once_and_everything_lives_again(broker: Broker) -> None:
    asker = await NatsBus.connect(broker.url, "asker", wait=LIMIT)
    server = await NatsBus.connect(broker.url, "server", wait=LIMIT)
    lost, back, server_back, started = Flag(), Flag(), Flag(), Recorder()
    asker.on_disconnect(lost)
    asker.on_reconnect(back)
    server.on_reconnect(server_back)

    async def hang(message: Message) -> Message | None:
        await started(message)
        await asyncio.Event().wait()
        return None

    await server.subscribe("hang", hang)
    await server.subscribe("echo", echo)
    await server.flush()
    waiting = asyncio.create_task(asker.request("hang", Ack(), timeout=3600))
    await started.wait()
    broker.kill()
    with pytest.raises(Disconnected):
        async with asyncio.timeout(LIMIT):
            await waiting
    await lost.wait()
    assert not asker.is_connected
    with pytest.raises(Disconnected):
        await asker.request("echo", Ack(), timeout=3600)
    await revive(broker)
    await back.wait()
    await server_back.wait()
    assert asker.is_connected
    assert await asker.request("echo", Ack("again"), timeout=LIMIT) == Ack("again")
    await asker.close()
    await server.close()


async def test_a_large_transfer_fails_when_the_server_dies(broker: Broker) -> None:
    asker = await NatsBus.connect(broker.url, "asker", wait=LIMIT, payload_limit=1000)
    started = Recorder()

    async def hang(message: Message) -> Message | None:
        await started(message)
        await asyncio.Event().wait()
        return None

    await asker.subscribe("hang", hang)
    await asker.flush()
    waiting = asyncio.create_task(asker.request("hang", FetchBlocks((bytes(5000),)), timeout=3600))
    await started.wait()
    broker.kill()
    with pytest.raises(Disconnected):
        async with asyncio.timeout(LIMIT):
            await waiting
    await asker.close()


async def test_what_is_said_just_when_the_connection_ends_is_said_over_the_next_one(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before nats-py has seen that it ended."""
    bus = await NatsBus.connect(broker.url, "one", wait=LIMIT)
    heard, back, seen = Recorder(), Flag(), asyncio.Event()
    bus.on_reconnect(back)
    client = bus._wire.client
    lose = client._process_op_err

    async def later(error: Exception) -> None:
        await seen.wait()
        await lose(error)

    monkeypatch.setattr(client, "_process_op_err", later)
    broker.kill()
    async with asyncio.timeout(LIMIT):
        await bus._wire._transport.wait_closed()
    client._flusher_task.cancel()
    await asyncio.wait([client._flusher_task])
    assert bus.is_connected, "as far as it knows"
    async with asyncio.timeout(LIMIT):
        await bus.subscribe("news", heard)
        await bus.publish("news", Ack("late"))
        seen.set()
        await revive(broker)
        await back.wait()
        await heard.wait()
    assert heard.messages == [Ack("late")]
    await bus.close()


async def test_what_was_published_while_disconnected_arrives_later(broker: Broker) -> None:
    bus = await NatsBus.connect(broker.url, "one", wait=LIMIT)
    heard, lost = Recorder(), Flag()
    bus.on_disconnect(lost)
    await bus.subscribe("news", heard)
    await bus.flush()
    broker.kill()
    await lost.wait()
    await bus.publish("news", Ack("held"))
    await revive(broker)
    assert await heard.wait() == [Ack("held")]
    await bus.close()


async def test_connecting_before_the_server_is_there(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    connecting = asyncio.create_task(NatsBus.connect(f"nats://127.0.0.1:{port}", "early"))
    done, _ = await asyncio.wait({connecting}, timeout=0.2)
    assert not done
    broker = Broker(BrokerConfig(name="late", data_dir=tmp_path, port=port, jetstream=False))
    try:
        await revive(broker)
        async with asyncio.timeout(LIMIT):
            bus = await connecting
        await bus.flush()
        await bus.close()
    finally:
        broker.kill()


async def test_giving_up_names_the_servers() -> None:
    first, second = free_ports(2)
    urls = f"nats://127.0.0.1:{first}, nats://127.0.0.1:{second}"
    with pytest.raises(BusError) as caught:
        await NatsBus.connect(urls, "lonely", wait=0.2)
    assert str(caught.value) == f"no NATS server answers at {urls} (waited 0.2 s)"


async def test_an_impossible_url_is_one_line() -> None:
    with pytest.raises(BusError, match="cannot connect to nats://: "):
        await NatsBus.connect("nats://", "lost", wait=LIMIT)


async def test_a_payload_in_many_pieces_and_small_ones_between(broker: Broker) -> None:
    """Sizes around every boundary of the receive buffers, all at once."""
    asker = await NatsBus.connect(broker.url, "asker", wait=LIMIT)
    server = await NatsBus.connect(broker.url, "server", wait=LIMIT)
    await server.subscribe("echo", echo)
    await server.flush()
    sizes = [0, 1, 65_400, 65_536, 70_000, 262_100, 262_144, 300_000, 1_000_000] * 4
    messages = [FetchBlocks((bytes([number]) * size,)) for number, size in enumerate(sizes)]
    answers = await asyncio.gather(*(asker.request("echo", each, timeout=LIMIT) for each in messages))
    assert answers == messages
    await asker.close()
    await server.close()


def test_what_is_said_in_the_moment_of_a_servers_death_waits_for_the_next(tmp_path: Path) -> None:
    """Between the end of a connection and the client's word of it, uvloop refuses to write."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(speak_while_a_server_dies(tmp_path))


async def speak_while_a_server_dies(directory: Path) -> None:
    async with running_broker(directory) as broker:
        bus = await NatsBus.connect(broker.url, "speaker", wait=LIMIT)
        begun, back = Flag(), Flag()
        bus.on_reconnect(back)

        async def speak() -> None:
            while not back:
                await bus.publish("words", Ack())
                begun()
                await asyncio.sleep(0.001 if not bus.is_connected else 0)

        speakers = [asyncio.create_task(speak()) for _ in range(5)]
        await begun.wait()
        broker.kill()
        await revive(broker)
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*speakers)
        await bus.close()


async def test_a_stopped_server_is_noticed_by_pings(broker: Broker) -> None:
    bus = await NatsBus.connect(broker.url, "one", wait=LIMIT, ping_seconds=0.2)
    lost, back = Flag(), Flag()
    bus.on_disconnect(lost)
    bus.on_reconnect(back)
    hang(broker.pid)
    flood = asyncio.create_task(publish_much(bus))  # more than any buffer on the way takes
    await lost.wait()
    broker.signal(signal.SIGCONT)
    async with asyncio.timeout(LIMIT):
        await flood
    await back.wait()
    with pytest.raises(NoResponders):  # only a live connection can tell that nobody listens
        await bus.request("nobody", Ack(), timeout=LIMIT)
    await bus.close()


async def publish_much(bus: NatsBus) -> None:
    for _ in range(40):
        await bus.publish("flood", FetchBlocks((bytes(1_000_000),)))


async def test_the_server_tells_of_a_client_that_went_away(broker: Broker) -> None:
    watcher = await NatsBus.connect(broker.url, "watcher", wait=LIMIT)
    events: asyncio.Queue[bytes] = asyncio.Queue()

    async def on_event(msg: object) -> None:
        events.put_nowait(getattr(msg, "data", b""))

    await watcher.client.subscribe(DISCONNECTS, cb=on_event)
    await watcher.flush()
    victim = await NatsBus.connect(broker.url, "victim", wait=LIMIT)
    await victim.close()
    async with asyncio.timeout(LIMIT):
        assert b'"victim"' in await events.get()
    await watcher.close()


def servers(bus: NatsBus) -> list[str]:
    """Those that it may go to."""
    return [url.geturl() for url in bus._nats.client.servers]


async def test_servers_that_were_named_are_not_tried_twice(tmp_path: Path) -> None:
    """They tell of themselves by address. Where one hangs, its address would cost a try in vain."""
    async with running_cluster(tmp_path, 3) as brokers:
        urls = [broker.url.replace("127.0.0.1", "localhost") for broker in brokers]
        told_one = await NatsBus.connect(urls[0], "one", wait=LIMIT)
        async with asyncio.timeout(LIMIT):
            while len(servers(told_one)) < 4:  # itself by name, and all three by address
                await told_one.flush()
        told_all = await NatsBus.connect(urls, "all", wait=LIMIT)
        await told_all.flush()
        assert sorted(servers(told_all)) == sorted(urls)
        await told_one.close()
        await told_all.close()


async def test_a_cluster_outlives_its_first_node(tmp_path: Path) -> None:
    ports = free_ports(6)
    nodes = [Broker(each) for each in cluster_configs(3, tmp_path, ports=ports[:3], route_ports=ports[3:])]
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            await node.wait_ready()
        urls = [node.url for node in nodes]
        one, two = await NatsBus.connect(urls, "one"), await NatsBus.connect(list(reversed(urls)), "two")
        back = Flag()
        one.on_reconnect(back)
        await two.subscribe("echo", echo)
        await two.flush()
        assert await request_until_served(one, "echo") == Ack("again")
        nodes[0].kill()
        await back.wait()
        assert await request_until_served(one, "echo") == Ack("again")
        await one.close()
        await two.close()
    finally:
        for node in nodes:
            node.kill()
