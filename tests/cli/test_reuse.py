"""Sizes in words, and what members are told about reuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cli.conftest import Command
from xpod.cli import starting
from xpod.cli.compose import compose_path
from xpod.cli.errors import BAD_USAGE, CliError
from xpod.cli.handle import Handle
from xpod.cli.plan import LaunchPlan
from xpod.cli.reuse import DEFAULT_MEMPOOL, DEFAULT_MEMPOOL_DISK, Reuse, sizes_in
from xpod.cli.sizes import size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("67108864", 1 << 26),
        ("64M", 1 << 26),
        ("64MiB", 1 << 26),
        ("64mib", 1 << 26),
        ("1G", 1 << 30),
        (" 3k ", 3072),
        ("2TiB", 1 << 41),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert size("--x", text) == expected


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5G", "64MB", "64 M", "1e9", "٣"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(CliError, match=r"--x: .* is not a size") as caught:
        size("--x", text)
    assert caught.value.exit_code == BAD_USAGE


def test_the_defaults_are_said_in_words_too() -> None:
    assert Reuse() == Reuse(
        mempool_bytes=size("", DEFAULT_MEMPOOL), mempool_disk_bytes=size("", DEFAULT_MEMPOOL_DISK)
    )


def test_members_in_containers_get_the_same() -> None:
    settings = yaml.safe_load(compose_path().read_text())["x-settings"]
    for name, value in Reuse().variables().items():
        assert settings[name] == f"${{{name}:-{value}}}"


def test_sizes_of_the_environment_reach_services_in_bytes() -> None:
    outer = {"XPOD_MEMPOOL_BYTES": "1K", "XPOD_ROUTING": "session"}
    assert sizes_in(outer) == {"XPOD_MEMPOOL_BYTES": "1024"}
    with pytest.raises(CliError, match="XPOD_MEMPOOL_DISK_BYTES: 'x' is not a size"):
        sizes_in({"XPOD_MEMPOOL_DISK_BYTES": "x"})


class Stopped(Exception):
    """So that nothing is started."""


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[LaunchPlan]:
    """What would have been launched."""
    found: list[LaunchPlan] = []

    def keep(plan: LaunchPlan, **others: object) -> Handle:
        found.append(plan)
        raise Stopped

    monkeypatch.setattr(starting, "Handle", keep)
    return found


def test_up_tells_every_member(
    command: Command, plans: list[LaunchPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XPOD_MEMPOOL_DISK_BYTES", "2G")
    arguments = ("--routing", "session", "--caching", "decode", "--mempool-bytes", "8MiB")
    with pytest.raises(Stopped):
        command("up", "--data", str(tmp_path), "--port", "0", *arguments)
    expected = Reuse("session", "decode", 8 << 20, 2 << 30).variables()
    members = [spec for spec in plans[0].members if spec.kind != "nats"]
    assert {spec.kind for spec in members} > {"router", "prefill", "decode", "mempool"}
    for spec in members:
        assert {name: spec.env.get(name) for name in expected} == expected
