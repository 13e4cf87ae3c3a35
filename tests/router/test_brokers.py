"""NATS nodes in `xpod status`: seen by their greeting, and seen to go."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from xpod.cli.credentials.keyring import Keyring
from xpod.router.brokers import Brokers
from xpod_runtime.broker import Broker
from xpod_runtime.broker_config import BrokerConfig
from xpod_runtime.credentials import read_credentials
from xpod_runtime.testing import LIMIT, running_broker


async def leader() -> str:
    return "nats-7"


async def test_a_node_is_up_by_its_own_name_and_down_when_killed(tmp_path: Path) -> None:
    async with running_broker(tmp_path, name="nats-7") as broker:
        brokers = Brokers(lambda: [broker.url], leader)
        await brokers.ask()
        (up,) = brokers.members()
        assert (up["id"], up["kind"], up["state"]) == ("nats-7", "nats", "up")
        assert up["detail"]["leads"] is True
        broker.kill()
        await brokers.ask()
        (down,) = brokers.members()
        assert (down["id"], down["state"]) == ("nats-7", "down")


async def test_a_node_that_speaks_tls_has_nothing_to_complain_of(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path / "credentials", "one")
    broker = Broker(BrokerConfig("nats-7", tmp_path, access=keyring.access(["127.0.0.1"])))
    broker.start()
    try:
        await broker.wait_ready()
        trust = read_credentials(keyring.of("router"), "_INBOX").tls()
        await asyncio.to_thread(complaints, broker, 1)  # of whoever waited until it was ready
        brokers = Brokers(lambda: [broker.url], leader, trust)
        await brokers.ask()
        assert [(node["id"], node["state"]) for node in brokers.members()] == [("nats-7", "up")]
        stranger = Brokers(lambda: [broker.url], leader)
        await stranger.ask()
        assert [node["state"] for node in stranger.members()] == ["down"], "nobody here could use it"
        await asyncio.to_thread(complaints, broker, 2)  # of the stranger
    finally:
        broker.kill()


def complaints(broker: Broker, count: int) -> None:
    """Returns once it has logged so many connections that were hung up; fails if it has logged more."""

    def found() -> int:
        return broker.config.log_path.read_text().count("TLS handshake error")

    deadline = time.monotonic() + LIMIT
    while found() < count and time.monotonic() < deadline:  # a file tells nobody that it grew
        time.sleep(0.01)
    assert found() == count


async def test_something_else_on_the_port_is_not_nats() -> None:
    async def other(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HELLO {}\r\n")
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    address = "{}:{}".format(*server.sockets[0].getsockname())
    brokers = Brokers(lambda: [f"nats://{address}"], leader)
    await brokers.ask()
    server.close()
    assert [(node["id"], node["state"]) for node in brokers.members()] == [(address, "down")]
