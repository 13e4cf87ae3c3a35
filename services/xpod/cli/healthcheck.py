"""`python -m xpod.cli.healthcheck`: whether the member of this container lives, for Docker.

Knows: that a member which lives is heard on `<pod>.v1.heartbeat.<kind>`, and as much of NATS's text protocol as it
takes to listen. A heartbeat comes from the member's own event loop, so it means more than a process that exists.
Does not know: xpod_proto, on purpose: it runs every few seconds beside every member, and has to start in a blink
(a test holds it to the real subject and the real message).
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import msgpack

HEARTBEAT_TAG = 17
LISTEN_SECONDS = 4.0
_CONNECT = (
    b'CONNECT {"verbose":false,"pedantic":false,"name":"healthcheck","lang":"python","version":"0"}\r\n'
)


def listens(host: str, port: int, subject: str, deadline: float) -> Iterator[bytes]:
    """The messages on a subject of a NATS server, until the deadline (monotonic seconds)."""
    with socket.create_connection((host, port), timeout=max(0.1, deadline - time.monotonic())) as connection:
        connection.sendall(_CONNECT + f"SUB {subject} 1\r\nPING\r\n".encode())
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


def is_heartbeat_of(payload: bytes, member: str) -> bool:
    """Whether a message is a heartbeat of this member."""
    try:
        parts = msgpack.unpackb(payload)
    except (ValueError, msgpack.UnpackException):
        return False
    return isinstance(parts, list) and parts[:2] == [HEARTBEAT_TAG, member]


def beats(urls: str, pod: str, member: str, seconds: float = LISTEN_SECONDS) -> bool:
    """Whether a heartbeat of the member is heard at one of the servers, each getting its share of the time."""
    servers = [urlsplit(url.strip()) for url in urls.split(",") if url.strip()]
    for server in servers:
        deadline = time.monotonic() + seconds / len(servers)
        try:
            heard = listens(
                server.hostname or "localhost", server.port or 4222, f"{pod}.v1.heartbeat.*", deadline
            )
            if any(is_heartbeat_of(payload, member) for payload in heard):
                return True
        except OSError:
            continue
    return False


def main(variables: Mapping[str, str] = os.environ) -> int:
    """0 when the member that XPOD_ID names is heard, else 1."""
    urls = variables.get("XPOD_NATS_URL", "nats://127.0.0.1:4222")
    member = variables.get("XPOD_ID", "")
    if beats(urls, variables.get("XPOD_POD", "xpod"), member):
        return 0
    print(f"no heartbeat of {member or '(XPOD_ID is not set)'}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
