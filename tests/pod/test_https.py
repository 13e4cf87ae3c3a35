"""A pod of real processes that speaks HTTPS and asks for keys, which come and go while it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trustme

SIZES = (
    "--routers",
    "1",
    "--prefill",
    "1",
    "--decode",
    "1",
    "--experts",
    "1",
    "--mempool",
    "1",
    "--supervisors",
    "1",
)
SOON = 20.0


class Pod:
    """Commands for one data directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(directory / "ca.pem")
        issued.private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")
        bare = {name: value for name, value in os.environ.items() if not name.startswith("XPOD_")}
        self.environ = {**bare, "XPOD_DATA": str(self.data), "XPOD_CA": str(directory / "ca.pem")}

    def xpod(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "xpod.cli", *arguments],
            env=self.environ | variables,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def key(self, name: str, *limits: str) -> str:
        made = self.xpod("key", "add", name, *limits)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def said(self) -> str:
        return "".join(path.read_text() for path in (self.data / "logs").glob("*.log"))


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    made = Pod(tmp_path_factory.mktemp("https"))
    made.environ["XPOD_CLIENT_KEY"] = made.key("ann")
    pem = str(made.directory / "server.pem")
    up = made.xpod("up", "--detach", "--port", "0", *SIZES, "--tls-cert", pem, "--tls-key", pem)
    assert up.returncode == 0, up.stderr
    yield made
    down = made.xpod("down")
    assert down.returncode == 0, down.stderr


def run(pod: Pod, key: str) -> subprocess.CompletedProcess[str]:
    return pod.xpod("run", "import os", "--max-tokens", "4", "--seed", "1", "--json", XPOD_CLIENT_KEY=key)


def until(pod: Pod, key: str, code: int) -> None:
    """Asks until `xpod run` ends so."""
    deadline = time.monotonic() + SOON
    while (asked := run(pod, key)).returncode != code:
        assert time.monotonic() < deadline, asked.stderr


def test_who_has_a_key_is_answered_over_https(pod: Pod) -> None:
    ann = pod.environ["XPOD_CLIENT_KEY"]
    told = json.loads(pod.xpod("status", "--json").stdout)
    (url,) = told["endpoints"]
    assert url.startswith("https://127.0.0.1:")
    answers = [run(pod, ann)]
    assert json.loads(answers[0].stdout)["tokens"]
    for bad in ("", "xpod-000000000000-x"):
        refused = run(pod, bad)
        assert refused.returncode == 4
        assert "API key" in refused.stderr
    assert pod.xpod("run", "x", XPOD_CA="").returncode == 3
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{urlsplit(url).port}/health", trust_env=False)


def test_keys_come_and_go_while_it_runs(pod: Pod) -> None:
    ann = pod.environ["XPOD_CLIENT_KEY"]
    before = json.loads(run(pod, ann).stdout)
    bob = pod.key("bob")
    until(pod, bob, 0)
    assert json.loads(run(pod, bob).stdout)["tokens"] == before["tokens"]
    assert pod.xpod("key", "remove", "bob").returncode == 0
    until(pod, bob, 4)
    kim = pod.key("kim", "--requests-per-minute", "1")
    until(pod, kim, 0)
    limited = run(pod, kim)
    assert limited.returncode == 4
    assert "1 requests per minute" in limited.stderr
    assert run(pod, ann).returncode == 0
    kept = (pod.data / "api-keys.json").read_text() + pod.said() + pod.xpod("status", "--json").stdout
    assert not any(key.split("-", 2)[2] in kept for key in (ann, bob, kim))
