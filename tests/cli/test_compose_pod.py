"""Containers as a target, with a `docker` that writes down what it is asked and says what a test wrote."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from xpod.cli.chaos.compose_pod import ComposePod, containers, endpoint, parse_usage
from xpod.cli.chaos.target import POD, Life, Usage
from xpod.cli.errors import BAD_USAGE, CliError

FAKE_DOCKER = """#!/bin/sh
echo "$*" >> "$DOCKER_DIR/asked"
case "$1" in
  compose) cat "$DOCKER_DIR/ps" ;;
  inspect) cat "$DOCKER_DIR/inspect" ;;
  exec) cat "$DOCKER_DIR/usage" ;;
  start) echo started >> "$DOCKER_DIR/done"; test ! -e "$DOCKER_DIR/broken" || { echo "no room" >&2; exit 1; } ;;
esac
"""
PUBLISHED = [
    {"URL": "", "TargetPort": 8000, "PublishedPort": 0, "Protocol": "tcp"},
    {"URL": "127.0.0.1", "TargetPort": 8000, "PublishedPort": 8001, "Protocol": "tcp"},
]
SERVICES: list[dict[str, Any]] = [
    {"Service": "decode-0", "ID": "d0", "Publishers": PUBLISHED[:1]},
    {"Service": "router-1", "ID": "r1", "Publishers": PUBLISHED},
    {"Service": "nats-0", "ID": "n0", "Publishers": None},
    {"Service": "grafana", "ID": "g", "Publishers": None},
]
INSPECT = """\
d0full running 2026-11-21T10:00:00.123456789Z
r1full exited 2026-11-21T10:00:01Z
n0full paused 2026-11-21T10:00:02.5Z
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a fake docker that has four services."""
    command = tmp_path / "docker"
    command.write_text(FAKE_DOCKER)
    command.chmod(0o755)
    (tmp_path / "ps").write_text("\n".join(map(json.dumps, SERVICES)))
    (tmp_path / "inspect").write_text(INSPECT)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_DIR", str(tmp_path))
    return tmp_path


def asked(docker: Path) -> list[str]:
    return (docker / "asked").read_text().splitlines()


def settled(pod: ComposePod) -> None:
    """Returns when all that was killed was asked to start."""
    pod._pool.shutdown(wait=True)


def test_members_and_endpoints_are_those_of_the_services(docker: Path) -> None:
    pod = ComposePod(docker)
    assert asked(docker) == [f"compose --project-directory {docker} ps --all --format json"]
    assert pod.routers == {"router-1": "http://127.0.0.1:8001"}
    decode, router, nats = pod.lives()
    assert (decode.member, decode.kind, decode.runs, decode.pid) == ("decode-0", "decode", True, None)
    assert decode.name == "2026-11-21T10:00:00.123456789Z"
    assert decode.started == pytest.approx(1795255200.123456)
    assert (router.runs, nats.runs) == (False, True)
    assert pod.members("decode") == ["decode-0"]
    assert pod.members("router") == []


def test_a_file_may_be_named(docker: Path) -> None:
    file = docker / "pod.yaml"
    file.touch()
    ComposePod(file)
    assert asked(docker)[0].startswith(f"compose --file {file} ps")


def test_both_forms_of_json_are_read() -> None:
    assert containers(json.dumps(SERVICES)) == SERVICES
    assert containers("\n".join(map(json.dumps, SERVICES))) == SERVICES
    assert containers("") == []


def test_a_published_port_of_every_address_is_one_of_this_machine() -> None:
    assert endpoint({"Publishers": [{"URL": "0.0.0.0", "PublishedPort": 80, "Protocol": "tcp"}]}) == (
        "http://127.0.0.1:80"
    )
    assert endpoint({"Publishers": [{"URL": "::", "PublishedPort": 80, "Protocol": "udp"}]}) == ""
    assert endpoint({}) == ""


def test_what_was_killed_is_started_again(docker: Path) -> None:
    pod = ComposePod(docker)
    pod.hit("decode-0", "KILL")
    settled(pod)
    assert asked(docker)[1:] == ["kill d0", "wait d0", "start d0"]


def test_the_whole_pod_is_all_but_nats_at_once(docker: Path) -> None:
    pod = ComposePod(docker)
    assert pod.members(POD) == [POD]
    pod.hit(POD, "KILL")
    settled(pod)
    assert asked(docker)[1:] == ["kill d0 r1", "wait d0 r1", "start d0 r1"]


def test_a_container_that_cannot_be_started_is_an_error(docker: Path) -> None:
    pod = ComposePod(docker)
    (docker / "broken").touch()
    pod.hit("decode-0", "KILL")
    settled(pod)
    with pytest.raises(CliError, match="docker start: no room"):
        pod.lives()


def test_a_stop_is_a_pause(docker: Path) -> None:
    pod = ComposePod(docker)
    pod.wake(pod.hit("nats-0", "STOP"))
    assert asked(docker)[1:] == ["pause n0", "unpause n0"]


def test_usage_is_read_inside_of_each_container_that_runs(docker: Path) -> None:
    (docker / "usage").write_text("Rss:  2000 kB\nPss:  1000 kB\nVmRSS:  2000 kB\nfiles: 12\n")
    pod = ComposePod(docker)
    found = pod.usage()
    assert [(each.life.member, each.memory, each.files) for each in found] == [
        ("decode-0", 1024000, 12),
        ("nats-0", 1024000, 12),
    ]
    assert any(line.startswith("exec d0 sh -c cat /proc/1/smaps_rollup") for line in asked(docker))


def test_without_a_proportional_set_the_resident_one_counts() -> None:
    life = Life("nats-0", "nats", runs=True)
    assert parse_usage(life, "VmRSS:  20 kB\nfiles: 3\n") == Usage(life, 20480, 3)


def test_where_no_router_runs_there_is_no_target(docker: Path) -> None:
    (docker / "ps").write_text("")
    with pytest.raises(CliError, match="no router"):
        ComposePod(docker)


def test_without_docker_there_is_no_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CliError, match="no docker command") as raised:
        ComposePod(tmp_path)
    assert raised.value.exit_code == BAD_USAGE
