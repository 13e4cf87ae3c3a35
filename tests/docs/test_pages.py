"""The pages for users, run from top to bottom as they stand, but for ports, places and names of machines."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from docs.pages import ROOT, script
from xpod_model.demo import demo_path
from xpod_runtime.broker import free_ports, nats_server_path

SECONDS = 240
LOOKED_AT = r"^(xpod (?:chat|top)\b|xpod logs .*--follow)"
"""Commands that go on until somebody has seen enough."""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a stranger's shell, in an empty directory; whatever is left of a pod is stopped."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "nats-server").symlink_to(nats_server_path())
    for name, module in (("xpod", "xpod.cli"), *([] if shutil.which("curl") else [("curl", "docs.curl")])):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        (programs / name).chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("XPOD_")}
    yield {**environ, "PATH": f"{programs}:{environ['PATH']}", "HOME": str(tmp_path)}
    for data in (tmp_path / "here").rglob("pod.json"):
        subprocess.run([programs / "xpod", "down", "--data", data.parent], check=False, timeout=60)


def run(text: str, shell: dict[str, str], tmp_path: Path) -> str:
    """All of it, up to the first command that fails; its output."""
    here = tmp_path / "here"
    here.mkdir()
    terminal = f"{sys.executable} {Path(__file__).with_name('terminal.py')}"
    text = re.sub(LOOKED_AT, rf"{terminal} \1", text, flags=re.MULTILINE)
    output, errors = tmp_path / "output", tmp_path / "errors"
    with output.open("wb") as out, errors.open("wb") as err:
        done = subprocess.Popen(
            ["bash", "-exo", "pipefail", "-c", text],
            cwd=here,
            env=shell,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            code = done.wait(SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(done.pid, signal.SIGKILL)
            done.wait()
    assert code == 0, output.read_text()[-2000:] + errors.read_text()[-4000:]
    return output.read_text()


def on_free_ports(text: str, shell: dict[str, str]) -> str:
    """Two neighbours instead of 8000 and 8001."""
    while True:
        (port,) = free_ports(1)
        if port < 65535:
            break
    shell["XPOD_PORT"] = str(port)
    return text.replace(":8000", f":{port}").replace(":8001", f":{port + 1}")


@pytest.mark.timeout(SECONDS + 60)
def test_quick_start(shell: dict[str, str], tmp_path: Path) -> None:
    page = script(ROOT / "docs" / "quick-start.md")
    said = run(on_free_ports(page, shell), shell, tmp_path)
    assert "stopped 14 processes" in said


@pytest.mark.timeout(SECONDS + 60)
def test_checkpoints(shell: dict[str, str], tmp_path: Path) -> None:
    page = script(ROOT / "docs" / "checkpoints.md").replace("DIR", str(demo_path()))
    local = [line for line in page.splitlines() if "docker" not in line]
    assert "stopped" in run(on_free_ports("\n".join(local), shell), shell, tmp_path)


@pytest.mark.timeout(SECONDS + 60)
def test_operating(shell: dict[str, str], tmp_path: Path) -> None:
    """Its commands are for a pod that runs."""
    page = script(ROOT / "docs" / "operating.md").replace("DIR", str(demo_path()))
    before, _, after = page.partition("xpod status")
    shell |= {"XPOD_PREFILL": "1", "XPOD_EXPERTS": "2", "XPOD_SUPERVISORS": "1", "XPOD_ROUTERS": "1"}
    text = f"{before}\nxpod up --detach\nxpod status{after}"
    assert "stopped" in run(on_free_ports(text, shell), shell, tmp_path)


@pytest.mark.timeout(SECONDS + 60)
def test_several_machines(shell: dict[str, str], tmp_path: Path) -> None:
    """All of them are this one; NATS' three nodes are one."""
    client, monitor, port = free_ports(3)
    page = script(ROOT / "docs" / "several-machines.md")
    for shown, here in (
        ("--node a --node b --node c", "--node localhost"),
        ("/var/lib/xpod/nats", str(tmp_path / "nats")),
        ("NATS=nats://a:4222,nats://b:4222,nats://c:4222", f"NATS=nats://localhost:{client}"),
        ("/models/big", str(demo_path())),
        ("--host 0.0.0.0 --public-host a", f"--port {port} --data a"),
        ("--host 0.0.0.0", "--data b"),
        (
            "nats-server --config keys/nats/a.conf",
            f"sed -i 's/0.0.0.0:4222/127.0.0.1:{client}/; s/http_port: 8222/http_port: {monitor}/' "
            "keys/nats/localhost.conf\nnats-server --config keys/nats/localhost.conf & nats=$!",
        ),
    ):
        assert shown in page, shown
        page = page.replace(shown, here, 1 if shown in {"--host 0.0.0.0"} else -1)
    asked = f"xpod run 'import os' --max-tokens 8 --url http://127.0.0.1:{port}"
    until = f"for try in $(seq 30); do xpod run x --max-tokens 1 --url http://127.0.0.1:{port} && break; done"
    page += f"\n{until}\n{asked}\nxpod down --data b\nxpod down --data a\nkill $nats\nwait"
    said = run(page, shell, tmp_path)
    assert "3 members of big run here" not in said
    assert f"big serves at http://127.0.0.1:{port}" in said
    assert "4 members of big run here" in said
    keys = (tmp_path / "here" / "keys").rglob("*.nk")
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)
