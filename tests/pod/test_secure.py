"""A pod of real processes whose NATS nodes let in nobody else."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pod.test_processes import status, xpod
from xpod.cli.credentials.keyring import found
from xpod.cli.state import read_state
from xpod_model.demo import demo_path
from xpod_runtime.credentials import NOBODY, Credentials, read_credentials
from xpod_runtime.errors import BusError
from xpod_runtime.nats_bus import NatsBus
from xpod_runtime.testing import LIMIT

ASKING = ("run", "import os", "--max-tokens", "600", "--temperature", "0.9", "--seed", "3", "--json")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running pod with every kind of service, and more than one NATS node."""
    directory = tmp_path_factory.mktemp("pod") / "data"
    sizes = ["--nats", "3", "--routers", "1", "--prefill", "1", "--decode", "2", "--experts", "2"]
    up = xpod("up", "--detach", "--secure", "--port", "0", *sizes, "--supervisors", "1", data=directory)
    assert up.returncode == 0, up.stderr
    yield directory
    down = xpod("down", data=directory)
    assert down.returncode == 0, down.stderr


def answer(text: str) -> tuple[list[int], list[float]]:
    told: dict[str, Any] = json.loads(text)
    return told["tokens"], told["logprobs"]


def test_streams_survive_and_nobody_needs_what_it_may_not(data: Path) -> None:
    """Each way to recover takes subjects of its own: none is refused."""
    whole = xpod(*ASKING, data=data)
    assert whole.returncode == 0, whole.stderr
    environ = {name: value for name, value in os.environ.items() if not name.startswith("XPOD_")}
    for victims in (("decode-0", "expert-0"), ("decode-1", "mempool-0", "prefill-0"), ("nats-0",)):
        with subprocess.Popen(
            [sys.executable, "-m", "xpod.cli", *ASKING],
            env={**environ, "XPOD_DATA": str(data)},
            stdout=subprocess.PIPE,
            text=True,
        ) as running:
            for victim in victims:
                killed = xpod("kill", victim, data=data)
                assert killed.returncode == 0, killed.stderr
            assert answer(running.communicate(timeout=60)[0]) == answer(whole.stdout)
    assert {member["state"] for member in status(data)["members"]} <= {"up", "starting"}
    said = "".join(log.read_text() for log in (data / "logs").glob("*.log"))
    assert "violation" not in said.lower()
    assert "the server refused" not in said


def test_secrets_are_their_owner_s(data: Path) -> None:
    for path in (data / "credentials").rglob("*"):
        assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), path
    for config in (data / "nats").glob("*/nats-server.conf"):
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        for seed in (data / "credentials").glob("*/nats.nk"):
            assert seed.read_text().strip() not in config.read_text()


async def test_a_stranger_is_turned_away(data: Path) -> None:
    state = read_state(data)
    assert state is not None
    authority = read_credentials(data / "credentials" / "router", "_INBOX").authority
    for stranger in (NOBODY, Credentials(authority=authority)):
        with pytest.raises(BusError, match="do not trust each other"):
            await NatsBus.connect(state.nats_urls, "stranger", wait=LIMIT, credentials=stranger)


@pytest.mark.parametrize(("kind", "other"), [("supervisor", "mempool"), ("mempool", "supervisor")])
def test_a_service_with_the_credentials_of_another_ends_and_says_why(
    data: Path, tmp_path: Path, kind: str, other: str
) -> None:
    state, keyring = read_state(data), found(data / "credentials")
    assert state is not None
    settings = {
        "XPOD_POD": keyring.pod,
        "XPOD_ID": f"{kind}-9",
        "XPOD_NATS_URL": ",".join(state.nats_urls),
        "XPOD_CREDENTIALS": str(keyring.of(other)),
        "XPOD_MODEL": str(demo_path()),
        "XPOD_DATA": str(tmp_path),
    }
    environ = {name: value for name, value in os.environ.items() if not name.startswith("XPOD_")}
    run = subprocess.run(
        [sys.executable, "-m", f"xpod.{kind}"],
        env={**environ, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith(
        f"xpod {kind} {kind}-9: these credentials are not for this kind of member"
    )
