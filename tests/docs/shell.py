"""A stranger's shell, and scripts run in it as the pages show them, but for ports, places and names of machines."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from random import sample

from xpod_runtime.broker import nats_server_path

SECONDS = 240
LONG_SECONDS = 1200
HERE = Path(__file__).parent
LOOKED_AT = r"^(xpod (?:chat|top)\b|xpod logs .*--follow)"
"""Commands that go on until somebody has seen enough."""
BELOW_EPHEMERAL = range(20_000, 30_000)


class Shell:
    """In an empty directory, with xpod's programs and no settings of its own.

    `briefly` has options that end long commands of xpod, by their first words: "bench turns" -> "--rounds 1".
    """

    def __init__(self, directory: Path, briefly: Mapping[str, str]) -> None:
        self._directory = directory
        self._briefly = briefly
        self.here = directory / "here"
        self.here.mkdir()
        programs = directory / "bin"
        programs.mkdir()
        (programs / "nats-server").symlink_to(nats_server_path())
        self._program(programs / "xpod", '-m xpod.cli "$@"')
        if shutil.which("curl") is None:
            self._program(programs / "curl", f'"{HERE / "curl.py"}" "$@"')
        environ = {name: value for name, value in os.environ.items() if not name.startswith("XPOD_")}
        self.environ = {**environ, "PATH": f"{programs}:{environ['PATH']}", "HOME": str(directory)}

    def _program(self, path: Path, python: str) -> None:
        cases = "".join(f'"{words}") set -- "$@" {more};;\n' for words, more in self._briefly.items())
        brief = f'case "$1 $2" in\n{cases}esac\n' if path.name == "xpod" and cases else ""
        path.write_text(f'#!/bin/sh\n{brief}exec "{sys.executable}" {python}\n')
        path.chmod(0o755)

    def close(self) -> None:
        """Whatever is left of a pod is stopped."""
        for state in self.here.rglob("pod.json"):
            down = [sys.executable, "-m", "xpod.cli", "down", "--data", str(state.parent)]
            subprocess.run(down, check=False, timeout=60)

    def on_free_ports(self, text: str) -> str:
        """Two neighbours instead of 8000 and 8001, none of which a connection of somebody's gets meanwhile."""
        port = next(port for port in sample(BELOW_EPHEMERAL, 100) if is_free(port) and is_free(port + 1))
        self.environ["XPOD_PORT"] = str(port)
        return text.replace(":8000", f":{port}").replace(":8001", f":{port + 1}")

    def run(self, text: str, seconds: float = SECONDS) -> str:
        """All of it, up to the first command that fails; its output."""
        terminal = f"{sys.executable} {HERE / 'terminal.py'}"
        text = re.sub(LOOKED_AT, rf"{terminal} \1", text, flags=re.MULTILINE)
        output, errors = self._directory / "output", self._directory / "errors"
        with output.open("wb") as out, errors.open("wb") as err:
            done = subprocess.Popen(
                ["bash", "-exo", "pipefail", "-c", text],
                cwd=self.here,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            try:
                code = done.wait(seconds)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(done.pid, signal.SIGKILL)
                done.wait()
        assert code == 0, output.read_text()[-2000:] + errors.read_text()[-4000:]
        return output.read_text()


def is_free(port: int) -> bool:
    """Does nobody listen there, or talk from there?"""
    with socket.socket() as tried, suppress(OSError):
        tried.bind(("127.0.0.1", port))
        return True
    return False
