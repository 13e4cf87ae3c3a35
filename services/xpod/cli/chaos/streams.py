"""Streams under way at the same time, each read by a thread of its own as `xpod run` reads one.

Knows: when which token came, and how one waits for that.
Does not know: faults, or what the answers should have been.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from itertools import pairwise

from xpod.cli.answer import Answer
from xpod.cli.chaos.requests import Body, cold
from xpod.cli.client import PodClient
from xpod.cli.errors import CliError

PATH = "/v1/completions"
PATIENCE_SECONDS = 120.0
"""A stream waits so long for its next token: as long as a whole pod may take to start."""


class Stream:
    """One request: `answer` or `error` once it has ended; `chunks` and `began` while it runs."""

    def __init__(self, endpoints: Sequence[str], body: Body, changed: threading.Condition) -> None:
        self.answer: Answer | None = None
        self.error = ""
        self.chunks = 0
        self.began = 0.0
        self._endpoints, self._changed = endpoints, changed
        self._body = cold(body, secrets.token_hex(8))
        self._thread = threading.Thread(target=self.read, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    @property
    def ended(self) -> bool:
        return self.answer is not None or bool(self.error)

    @property
    def first(self) -> float:
        """Seconds to the first token."""
        assert self.answer is not None
        return self.answer.arrivals[0] - self.began

    @property
    def gap(self) -> float:
        """The longest pause between two chunks, in seconds."""
        return self.gap_since(0.0)

    def gap_since(self, moment: float) -> float:
        """The longest pause that ended after this time of the monotonic clock, in seconds."""
        assert self.answer is not None
        pauses = pairwise(self.answer.arrivals)
        return max((after - before for before, after in pauses if after >= moment), default=0.0)

    def read(self) -> None:
        """The whole stream, in the thread of the caller."""
        answer, error = None, ""
        self.began = time.monotonic()
        try:
            with PodClient(self._endpoints, patience=PATIENCE_SECONDS) as client:
                answer = client.stream(PATH, self._body, self._count)
        except CliError as failure:
            error = failure.message
        with self._changed:
            self.answer, self.error = answer, error
            self._changed.notify_all()

    def _count(self, text: str) -> None:
        with self._changed:
            self.chunks += 1
            self._changed.notify_all()


class Streams:
    """All streams of a trial. They begin with different routers."""

    def __init__(self, endpoints: Sequence[str], bodies: Sequence[Body]) -> None:
        self._changed = threading.Condition()
        self.streams = [
            Stream([*endpoints[i % len(endpoints) :], *endpoints[: i % len(endpoints)]], body, self._changed)
            for i, body in enumerate(bodies)
        ]

    def start(self) -> None:
        for stream in self.streams:
            stream.start()

    def wait_for(self, number: int, chunks: int) -> None:
        """Returns when that stream has so many chunks of text, or has ended."""
        stream = self.streams[number]
        with self._changed:
            self._changed.wait_for(lambda: stream.chunks >= chunks or stream.ended)

    def wait_for_any(self) -> None:
        """Returns when some stream has its first chunk."""
        with self._changed:
            self._changed.wait_for(lambda: any(stream.chunks or stream.ended for stream in self.streams))

    def join(self) -> None:
        for stream in self.streams:
            stream.join()
