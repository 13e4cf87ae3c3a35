"""One blocking connection to a nats-server: handshake, frames out, frames in.

Knows: the client protocol of NATS (docs.nats.io, "NATS protocol").
Does not know: who waits for what, or when to connect again (see `nats_line`).
"""

from __future__ import annotations

import json
import socket
import ssl
from urllib.parse import unquote, urlsplit

import structlog

from xpod_proto.tensor import Buffer
from xpod_runtime.credentials import NOBODY, Credentials, refuse_plain
from xpod_runtime.errors import BusError
from xpod_runtime.nats_headers import trace_in
from xpod_runtime.wire import Frame

READ_BYTES = 1 << 20
CONNECT_SECONDS = 0.7
SEND_SECONDS = 5.0
"""A server that takes nothing for so long is as good as dead."""
NOT_ALLOWED_TO_SEND = "Permissions Violation for Publish"
"""Whoever asks us may name a subject for the answer that is not ours to send to: that is no reason to hang up."""

log = structlog.get_logger(__name__)


def host_and_port(url: str) -> tuple[str, int]:
    """Of a server's URL, with or without its scheme."""
    parts = urlsplit(url if "//" in url else f"nats://{url}")
    return parts.hostname or "127.0.0.1", parts.port or 4222


class NatsSocket:
    """Raises OSError when the connection is lost, and BusError when the server refuses it."""

    def __init__(self, url: str, name: str, credentials: Credentials = NOBODY) -> None:
        parts = urlsplit(url if "//" in url else f"nats://{url}")
        host, port = host_and_port(url)
        self._raw = socket.create_connection((host, port), timeout=CONNECT_SECONDS)
        self._raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._left = b""
        self.pongs = 0
        """Answers to pings so far."""
        try:
            info = json.loads(self._read_line().removeprefix(b"INFO "))
            trust = credentials.tls()
            if trust or info.get("tls_required") or parts.scheme == "tls":
                refuse_plain(info, trust)
                context = trust or ssl.create_default_context()
                self._raw = context.wrap_socket(self._raw, server_hostname=host)
            self.max_payload = int(info["max_payload"])
            self._raw.settimeout(SEND_SECONDS)
            if credentials.seed:
                nonce = str(info.get("nonce", ""))
                shown = {"nkey": credentials.public_key, "sig": credentials.signature(nonce)}
            else:
                shown = _shown(unquote(parts.username or ""), unquote(parts.password or ""))
            self._introduce(name, shown)
        except BaseException:
            self._raw.close()
            raise

    def _read_line(self) -> bytes:
        """The first line, which nothing follows before we speak."""
        line = b""
        while not line.endswith(b"\r\n"):
            line += self._recv()
        return line

    def _introduce(self, name: str, shown: dict[str, str]) -> None:
        options: dict[str, object] = {
            "verbose": False,
            "pedantic": False,
            "lang": "python",
            "version": "xpod",
            "protocol": 1,
            "headers": True,
            "no_responders": True,
            "name": name,
            **shown,
        }
        self.send(b"CONNECT ", json.dumps(options).encode(), b"\r\n")
        self.round_trip()

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()

    def send(self, *pieces: Buffer) -> None:
        """All of the pieces, one after the other."""
        left = sum(len(piece) for piece in pieces)
        if isinstance(self._raw, ssl.SSLSocket):
            self._raw.sendall(b"".join(pieces))
        elif (sent := self._raw.sendmsg(pieces)) < left:
            self._raw.sendall(memoryview(b"".join(pieces))[sent:])

    def subscribe(self, subject: str, number: int) -> None:
        self.send(f"SUB {subject} {number}\r\n".encode())

    def ping(self) -> None:
        self.send(b"PING\r\n")

    def round_trip(self) -> list[Frame]:
        """Returns once the server has seen all that was sent; frames that arrived meanwhile."""
        before, frames = self.pongs, []
        self.ping()
        while self.pongs == before:
            frames.extend(self.read())
        return frames

    def read(self) -> list[Frame]:
        """Waits for bytes, once, and returns the frames that are complete."""
        data = self._recv()
        return self._frames(self._left + data if self._left else data)

    def pending(self) -> bool:
        """Bytes that no poll of the socket would show."""
        return isinstance(self._raw, ssl.SSLSocket) and self._raw.pending() > 0

    def _recv(self) -> bytes:
        data = self._raw.recv(READ_BYTES)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        return data

    def _frames(self, data: bytes) -> list[Frame]:
        frames, view, at = [], memoryview(data), 0
        while (end := data.find(b"\r\n", at)) >= 0:
            words = data[at:end].split()
            verb = words[0] if words else b""
            if verb not in (b"MSG", b"HMSG"):
                at = end + 2
                self._control(verb, words[1:])
                continue
            begin = end + 2
            stop = begin + int(words[-1])
            if len(data) < stop + 2:
                break
            at = stop + 2
            payload = view[begin:stop]
            frames.append(
                _message(words, payload) if verb == b"MSG" else _message_with_headers(words, payload)
            )
        self._left = data[at:] if at < len(data) else b""
        return frames

    def _control(self, verb: bytes, words: list[bytes]) -> None:
        if verb == b"PING":
            self.send(b"PONG\r\n")
        elif verb == b"PONG":
            self.pongs += 1
        elif verb == b"-ERR":
            reason = b" ".join(words).decode(errors="replace").strip("'")
            if not reason.startswith(NOT_ALLOWED_TO_SEND):
                raise BusError(reason)
            log.warning("the server refused a message", error=reason)


def _shown(user: str, password: str) -> dict[str, str]:
    """What a URL's user and password are called; a user alone is a token."""
    if password:
        return {"user": user, "pass": password}
    return {"auth_token": user} if user else {}


def _message(words: list[bytes], payload: memoryview) -> Frame:
    """`MSG subject number [reply] size`"""
    return Frame(words[1].decode(), words[3].decode() if len(words) == 5 else "", payload)


def _message_with_headers(words: list[bytes], payload: memoryview) -> Frame:
    """`HMSG subject number [reply] header-size size`"""
    reply, size = words[3].decode() if len(words) == 6 else "", int(words[-2])
    header = bytes(payload[:size])
    refused = b" 503" in header.split(b"\r\n", 1)[0]
    return Frame(words[1].decode(), reply, payload[size:], refused, trace_in(header))
