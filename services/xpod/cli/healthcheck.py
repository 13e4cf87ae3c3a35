"""`python -m xpod.cli.healthcheck`: whether the member of this container lives, for Docker.

Knows: that a member which lives is heard on `<pod>.v1.heartbeat.<kind>`, and as much of NATS's text protocol as it
takes to listen. A heartbeat comes from the member's own event loop, so it means more than a process that exists.
Does not know: xpod_proto, on purpose: it runs every few seconds beside every member, and has to start in a blink
(a test holds it to the real subject and the real message).
"""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgpack

HEARTBEAT_TAG = 17
LISTEN_SECONDS = 4.0
_CONNECT = {"verbose": False, "pedantic": False, "name": "healthcheck", "lang": "python", "version": "0"}


def listens(
    host: str, port: int, subject: str, deadline: float, credentials: Path | None = None
) -> Iterator[bytes]:
    """The messages on a subject of a NATS server, until the deadline (monotonic seconds)."""
    with socket.create_connection((host, port), timeout=max(0.1, deadline - time.monotonic())) as plain:
        greeting = b""
        while not greeting.endswith(b"\n"):  # and not a byte more: what follows may be TLS
            greeting += plain.recv(1) or b"\n"
        info = json.loads(greeting.partition(b" ")[2] or b"{}")
        with _secured(plain, host, info, credentials) as connection:
            shown = json.dumps(_CONNECT | _signed(info, credentials))
            connection.sendall(f"CONNECT {shown}\r\nSUB {subject} 1\r\nPING\r\n".encode())
            yield from _messages(connection, deadline)


def _messages(connection: socket.socket, deadline: float) -> Iterator[bytes]:
    stream = connection.makefile("rb")
    while (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        words = stream.readline().split()
        if not words:
            return
        if words[0] == b"PING":
            connection.sendall(b"PONG\r\n")
        elif words[0] == b"MSG":
            yield stream.read(int(words[-1]) + 2)[:-2]


def _secured(
    plain: socket.socket, host: str, info: dict[str, Any], credentials: Path | None
) -> socket.socket:
    if not info.get("tls_required"):
        return plain
    authority = credentials / "ca.pem" if credentials else None
    context = ssl.create_default_context(cafile=str(authority) if authority else None)
    return context.wrap_socket(plain, server_hostname=host)


def _signed(info: dict[str, Any], credentials: Path | None) -> dict[str, str]:
    """What shows the server that we have the member's key."""
    if credentials is None:
        return {}
    import nkeys

    pair = nkeys.from_seed(bytearray((credentials / "nats.nk").read_bytes().strip()))
    signature = base64.urlsafe_b64encode(pair.sign(str(info.get("nonce", "")).encode())).rstrip(b"=")
    return {"nkey": pair.public_key.decode(), "sig": signature.decode()}


def is_heartbeat_of(payload: bytes, member: str) -> bool:
    """Whether a message is a heartbeat of this member."""
    try:
        parts = msgpack.unpackb(payload)
    except (ValueError, msgpack.UnpackException):
        return False
    return isinstance(parts, list) and parts[:2] == [HEARTBEAT_TAG, member]


def beats(
    urls: str, pod: str, member: str, seconds: float = LISTEN_SECONDS, credentials: Path | None = None
) -> bool:
    """Whether a heartbeat of the member (a kind and a number) is heard at one of the servers.

    Each gets its share of the time.
    """
    subject = f"{pod}.v1.heartbeat.{member.rpartition('-')[0]}"
    servers = [urlsplit(url.strip()) for url in urls.split(",") if url.strip()]
    for server in servers:
        deadline = time.monotonic() + seconds / len(servers)
        try:
            host, port = server.hostname or "localhost", server.port or 4222
            heard = listens(host, port, subject, deadline, credentials)
            if any(is_heartbeat_of(payload, member) for payload in heard):
                return True
        except (OSError, ValueError):
            continue
    return False


def main(variables: Mapping[str, str] = os.environ) -> int:
    """0 when the member that XPOD_ID names is heard, else 1."""
    urls = variables.get("XPOD_NATS_URL", "nats://127.0.0.1:4222")
    member = variables.get("XPOD_ID", "")
    directory = variables.get("XPOD_CREDENTIALS", "")
    credentials = Path(directory) if directory else None
    if beats(urls, variables.get("XPOD_POD", "xpod"), member, credentials=credentials):
        return 0
    print(f"no heartbeat of {member or '(XPOD_ID is not set)'}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
