"""What is checked before a pod is started, so that a mistake costs one line and not a dozen dead processes.

Knows: model directories (by their headers), ports, and whether a NATS server greets.
Does not know: how a pod is started.
"""

from __future__ import annotations

import errno
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

from xpod.cli.errors import BAD_USAGE, CliError

NATS_SECONDS = 2.0
DEMO = "demo"


def find_model(model: str) -> Path:
    """The model's directory, its headers and its tokenizer checked; `demo` is the model that comes with xpod."""
    from xpod_model.checkpoint import Checkpoint
    from xpod_model.demo import demo_path
    from xpod_model.errors import ModelError
    from xpod_model.text import Text

    directory = Path(model)
    try:
        directory = demo_path() if model == DEMO else directory.expanduser().resolve()
        Checkpoint.open(directory).validate()
        Text.load(directory)
    except ModelError as error:
        raise CliError(f"--model: {error}") from error
    except OSError as error:
        raise CliError(f"--model: {directory} cannot be read: {error.strerror}") from error
    except (ValueError, RuntimeError) as error:  # as a path: a zero byte, the home of nobody
        raise CliError(f"--model: {model!r} is no directory: {error}") from error
    return directory


def check_port_range(first: int, count: int) -> None:
    """Refuses a first port that leaves no room for the others."""
    if first + count - 1 > 65535:
        raise CliError(f"--port: {first} leaves no room for {count} routers", BAD_USAGE)


def claim_ports(host: str, first: int, count: int) -> list[int]:
    """The routers' ports: `first` and those after it, all of them free now; 0 asks for any that are free."""
    wanted = [first + index if first else 0 for index in range(count)]
    held: list[socket.socket] = []
    try:
        for port in wanted:
            held.append(_listen(host, port))
        return [int(each.getsockname()[1]) for each in held]
    finally:
        for each in held:
            each.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise CliError(f"--host: {host}: {error.strerror}") from error
    probe = socket.socket(family, kind, protocol)
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen(1)
    except OSError as error:
        probe.close()
        taken = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
        raise CliError(f"--port: port {port} on {host} {taken}") from error
    return probe


def reach_nats(urls: str, seconds: float = NATS_SECONDS) -> list[str]:
    """The URLs, once one of their servers has greeted. Raises within `seconds` when none does."""
    servers = [url.strip() for url in urls.split(",") if url.strip()]
    addresses = [_address(url) for url in servers]
    if not addresses:
        raise CliError("--nats-url: no URL given", BAD_USAGE)
    deadline = time.monotonic() + seconds
    while True:
        for address in addresses:
            if _greets(address, max(0.1, (deadline - time.monotonic()) / len(addresses))):
                return servers
        if time.monotonic() >= deadline - 0.1:
            raise CliError(
                f"--nats-url: no NATS server answers at {', '.join(servers)} (waited {seconds:g} s)"
            )
        time.sleep(0.1)


def _address(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        host, port = parts.hostname, parts.port or 4222
    except ValueError as error:
        raise CliError(f"--nats-url: {url!r} is not a URL: {error}", BAD_USAGE) from error
    if not host or parts.scheme not in {"nats", "tls"}:
        raise CliError(f"--nats-url: {url!r} is not of the form nats://host:port", BAD_USAGE)
    return host, port


def _greets(address: tuple[str, int], seconds: float) -> bool:
    try:
        with socket.create_connection(address, timeout=seconds) as connection:
            return connection.recv(5) == b"INFO "
    except OSError:
        return False
