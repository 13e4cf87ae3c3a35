"""The raw bus: a process that answers any call with so many bytes, and how long that takes.

Knows: NATS, bytes, and that what is larger than a server's messages goes as several, all sent before the first answer.
Does not know: what the bytes could mean.
"""

from __future__ import annotations

import select
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from xpod.cli.errors import CliError
from xpod_runtime.errors import BusError
from xpod_runtime.nats_socket import NatsSocket

HEAD = 8
"""Bytes that say how many are wanted back."""


class Echo:
    """Asks the process that answers at `subject`."""

    def __init__(self, connection: NatsSocket, subject: str, pid: int) -> None:
        self._connection, self._subject, self.pid = connection, subject, pid
        self._inbox = f"_INBOX.{uuid.uuid4().hex}"
        connection.subscribe(self._inbox, 1)
        connection.round_trip()

    def ask(self, call_bytes: int, reply_bytes: int) -> float:
        """Seconds until all came back. Raises CliError where nothing does."""
        messages = _messages(call_bytes, reply_bytes, self._connection.max_payload)
        began = perf_counter()
        try:
            for message in messages:
                self._connection.send(
                    f"PUB {self._subject} {self._inbox} {len(message)}\r\n".encode(), message, b"\r\n"
                )
            left = len(messages)
            while left:
                left -= len(self._connection.read())
        except (OSError, BusError) as error:
            raise CliError(f"the echo does not answer: {error}") from error
        return perf_counter() - began


@contextmanager
def echoing(url: str) -> Iterator[Echo]:
    """An echo in a process of its own, which ends with this one."""
    subject = f"xpod-echo.{uuid.uuid4().hex}"
    command = [sys.executable, "-m", __name__, url, subject]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as child:
        try:
            assert child.stdout is not None
            if not child.stdout.readline():
                raise CliError("the echo does not start")
            connection = NatsSocket(url, "xpod-echo")
            try:
                yield Echo(connection, subject, child.pid)
            finally:
                connection.close()
        finally:
            child.kill()


def serve(url: str, subject: str) -> None:
    """Answers until its stdin ends."""
    connection = NatsSocket(url, "xpod-echo-server")
    connection.subscribe(subject, 1)
    connection.round_trip()
    print("ready", flush=True)
    poll = select.poll()
    for source in (connection, sys.stdin):
        poll.register(source, select.POLLIN)
    blank = bytes(connection.max_payload)
    while sys.stdin.fileno() not in {number for number, _ in poll.poll()}:
        for frame in connection.read():
            size = int.from_bytes(frame.data[:HEAD], "little")
            connection.send(f"PUB {frame.reply}  {size}\r\n".encode(), memoryview(blank)[:size], b"\r\n")


def _messages(call_bytes: int, reply_bytes: int, most: int) -> list[bytes]:
    """Calls that are `call_bytes` together and ask for `reply_bytes` together, no message longer than `most`."""
    count = max(1, -(-max(call_bytes, reply_bytes) // most))
    calls, replies = _shares(call_bytes, count), _shares(reply_bytes, count)
    return [
        reply.to_bytes(HEAD, "little").ljust(call, b"\0") for call, reply in zip(calls, replies, strict=True)
    ]


def _shares(total: int, count: int) -> list[int]:
    each, more = divmod(total, count)
    return [each + (index < more) for index in range(count)]


if __name__ == "__main__":
    serve(*sys.argv[1:])
