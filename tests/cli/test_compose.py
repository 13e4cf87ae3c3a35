"""Counts come from the names of services."""

import asyncio
import re
from pathlib import Path

import pytest
import yaml

from xpod.cli.compose import KINDS, compose_path, count_services, default_counts
from xpod.cli.errors import CliError
from xpod_proto import subjects
from xpod_runtime.broker import free_ports, nats_server_path
from xpod_runtime.nats_bus import NatsBus
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
        if "profiles" in service:
            continue
        if kind == "nats":
            assert service["command"][:2] == ["--server_name", name]
            assert service["volumes"] == [f"{name}:/data"]
            assert "/accounts.conf" in service["command"]
            assert service["configs"] == [{"source": "accounts", "target": "/accounts.conf"}]
        else:
            assert service["environment"]["XPOD_ID"] == name
            assert service["command"] == ["python", "-m", f"xpod.{kind}"]
            assert any("/model/mounted:ro" in volume for volume in service["volumes"])
            assert "frames:/frames" in service["volumes"]
            assert service["environment"]["XPOD_FRAMES"] == "${XPOD_FRAMES-/frames}"
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"]
        assert "depends_on" not in service


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
    """Its configuration and flags, but for addresses."""
    document = yaml.safe_load(compose_path().read_text())
    settings = tmp_path / "accounts.conf"
    settings.write_text(document["configs"]["accounts"]["content"].replace("$$", "$"))
    (port,) = free_ports(1)
    flags = ["--config", str(settings), "--store_dir", str(tmp_path), "-a", "127.0.0.1", "-p", str(port)]
    server = await asyncio.create_subprocess_exec(
        nats_server_path(), *flags, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        watcher = await NatsBus.connect(f"nats://127.0.0.1:{port}", "watcher", wait=LIMIT)
        departed: asyncio.Queue[str] = asyncio.Queue()
        await watcher.on_departure(departed.put_nowait)
        await watcher.flush()
        await (await NatsBus.connect(f"nats://127.0.0.1:{port}", "victim", wait=LIMIT)).close()
        async with asyncio.timeout(LIMIT):
            assert await departed.get() == "victim"
            await watcher.client.jetstream().add_stream(name="kept", subjects=["kept"])
        await watcher.close()
    finally:
        server.kill()
        await server.wait()
