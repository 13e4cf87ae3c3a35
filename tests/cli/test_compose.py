"""Counts come from the names of services."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import yaml

from xpod.cli.compose import KINDS, compose_path, count_services, default_counts
from xpod.cli.credentials.keyring import Keyring
from xpod.cli.errors import CliError
from xpod.cli.main import run_command
from xpod_proto import Ack, Message, subjects
from xpod_runtime.broker import free_ports, nats_server_path
from xpod_runtime.credentials import read_credentials
from xpod_runtime.errors import StoreError
from xpod_runtime.nats_bus import NatsBus
from xpod_runtime.store import Store
from xpod_runtime.testing import LIMIT


def test_kinds_are_those_of_the_bus_and_nats() -> None:
    assert set(KINDS) == {*subjects.KINDS, "nats"}


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        (["decode-0", "decode-1", "expert-0"], {"decode": 2, "expert": 1}),
        (["decode-1", "decode-0"], {"decode": 2}),
        (["grafana", "some-thing-0", "decode"], {}),
        ([], {}),
    ],
)
def test_counts(services: list[str], expected: dict[str, int]) -> None:
    found = count_services({"services": dict.fromkeys(services)}, "x")
    assert {kind: count for kind, count in found.items() if count} == expected


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"services": {"decode-1": None}}, "the decode services are not numbered"),
        ({"services": {"decode-0": None, "decode-00": None}}, "the decode services are not numbered"),
        ({}, "has no services"),
        ([], "has no services"),
    ],
)
def test_refuses(document: object, reason: str) -> None:
    with pytest.raises(CliError, match=reason):
        count_services(document, "x")


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="cannot be read"):
        default_counts(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(CliError, match="is not YAML"):
        default_counts(tmp_path / "bad.yaml")


def test_the_pod_of_this_project() -> None:
    counts = default_counts()
    assert counts == {
        "router": 2, "prefill": 2, "decode": 2, "expert": 3, "mempool": 2, "supervisor": 2, "nats": 3,
    }  # fmt: skip


def test_every_member_of_compose_knows_its_own_name_and_runs_its_own_kind() -> None:
    services = yaml.safe_load(compose_path().read_text())["services"]
    for name, service in services.items():
        kind = name.rpartition("-")[0]
        if "profiles" in service or name == "credentials":
            continue
        if kind == "nats":
            assert service["command"] == ["--config", f"/credentials/nats/{name}.conf"]
            assert service["volumes"] == [f"{name}:/data", "credentials-nats:/credentials/nats:ro"]
        else:
            assert service["environment"]["XPOD_ID"] == name
            assert service["command"] == ["python", "-m", f"xpod.{kind}"]
            assert any("/model/mounted:ro" in volume for volume in service["volumes"])
            assert "frames:/frames" in service["volumes"]
            assert service["environment"]["XPOD_FRAMES"] == "${XPOD_FRAMES-/frames}"
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"]
        assert service["depends_on"] == {"credentials": {"condition": "service_completed_successfully"}}


def test_each_member_of_compose_has_the_credentials_of_its_kind_and_no_others() -> None:
    services = yaml.safe_load(compose_path().read_text())["services"]
    for name, service in services.items():
        kind = name.rpartition("-")[0]
        if kind in subjects.KINDS:
            mounted = [volume for volume in service["volumes"] if volume.startswith("credentials")]
            assert mounted == [f"credentials-{kind}:/credentials:ro"]
            assert service["environment"]["XPOD_CREDENTIALS"] == "/credentials"
    made = {volume.partition(":")[0] for volume in services["credentials"]["volumes"]}
    assert made == {"credentials", *(f"credentials-{kind}" for kind in (*subjects.KINDS, "nats"))}


def test_the_memory_that_members_share_is_the_image_s_user_s() -> None:
    volume = yaml.safe_load(compose_path().read_text())["volumes"]["frames"]
    assert volume["driver_opts"]["type"] == "tmpfs"
    user = re.search(r"--uid (\d+)", (compose_path().parent / "Dockerfile").read_text())
    assert user
    assert f"uid={user[1]}" in volume["driver_opts"]["o"].split(",")


def test_one_service_builds_the_image_for_all() -> None:
    services = yaml.safe_load(compose_path().read_text())["services"]
    assert [name for name, service in services.items() if "build" in service] == ["router-0"]
    assert services["router-0"]["pull_policy"] == "missing"


async def test_the_servers_of_compose_tell_of_departures_and_keep_streams(tmp_path: Path) -> None:
    """Their credentials and configurations, but for addresses, ports and the place of data."""
    command = yaml.safe_load(compose_path().read_text())["services"]["credentials"]["command"]
    arguments = [str(tmp_path / "keys") if word == "/credentials" else word for word in command[1:]]
    arguments[arguments.index("--owner") + 1] = str(os.getuid())
    assert run_command(arguments) == 0
    found = Keyring(tmp_path / "keys", "xpod")
    names, clients, routes = ["nats-0", "nats-1", "nats-2"], free_ports(3), free_ports(3)
    async with AsyncExitStack() as running:
        for name, client, route in zip(names, clients, routes, strict=True):
            text = (found.nats / f"{name}.conf").read_text().replace("0.0.0.0:4222", f"127.0.0.1:{client}")
            text = text.replace("0.0.0.0:6222", f"127.0.0.1:{route}").replace("http_port: 8222\n", "")
            text = text.replace('"/data/', f'"{tmp_path / name}/')
            for other, port in zip(names, routes, strict=True):
                text = text.replace(f"@{other}:6222", f"@127.0.0.1:{port}")
            (tmp_path / f"{name}.conf").write_text(text)
            await running.enter_async_context(node(tmp_path / f"{name}.conf"))
        router, prefill = (
            read_credentials(found.of(kind), subjects.inbox("xpod", kind)) for kind in ("router", "prefill")
        )
        urls = [f"nats://127.0.0.1:{client}" for client in clients]
        watcher = await NatsBus.connect(urls, "watcher", wait=LIMIT, credentials=router)
        departed: asyncio.Queue[str] = asyncio.Queue()
        await watcher.on_departure(departed.put_nowait)
        await watcher.flush()
        await (await NatsBus.connect(urls, "victim", wait=LIMIT, credentials=prefill)).close()
        sessions = watcher.store(subjects.sessions_bucket("xpod"), lifetime=60.0)
        async with asyncio.timeout(2 * LIMIT):
            assert await departed.get() == "victim"
            await kept(sessions, "s1.facts", Ack("there"))
        assert len((await watcher.client.jetstream().stream_info("KV_xpod-sessions")).cluster.replicas) == 2  # type: ignore[union-attr, arg-type]
        await watcher.close()


@asynccontextmanager
async def node(config: Path) -> AsyncIterator[None]:
    server = await asyncio.create_subprocess_exec(
        nats_server_path(), "--config", str(config), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        server.kill()
        await server.wait()


async def kept(store: Store, key: str, message: Message) -> None:
    """Once the nodes have found a leader."""
    while True:
        with suppress(StoreError):
            return await store.put(key, message)
        await asyncio.sleep(0.05)
