"""Constant load: so many streams at any time, each compared when it ends and replaced by a new one.

Knows: requests with their fault-free answers. Does not know: faults.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from xpod.cli.chaos.oracle import Verdict, compare
from xpod.cli.chaos.requests import Body
from xpod.cli.chaos.streams import Stream
from xpod.cli.chaos.trial import Expected, excess


@dataclass(frozen=True, slots=True)
class Ended:
    """A stream that is over: `gap` in seconds where it did not fail."""

    number: int
    verdict: Verdict
    error: str
    gap: float
    recoveries: int

    @property
    def right(self) -> bool:
        return not self.error and self.verdict.right


class Load:
    """`start` it, `stop` it; `ended` grows meanwhile."""

    def __init__(
        self, endpoints: Sequence[str], bodies: list[Body], expected: list[Expected], seed: int
    ) -> None:
        self.ended: list[Ended] = []
        self._endpoints = list(endpoints)
        self._asked = list(zip(bodies, expected, strict=True))
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(f"{seed}/{each}"),), daemon=True)
            for each in range(len(bodies))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No new streams; returns when the last one has ended."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, rng: random.Random) -> None:
        """Stream after stream, each begun with a random router."""
        while not self._stopping.is_set():
            number = rng.randrange(len(self._asked))
            body, expected = self._asked[number]
            endpoints = rng.sample(self._endpoints, len(self._endpoints))
            stream = Stream(endpoints, body, self._changed)
            stream.read()
            self.ended.append(judged(number, stream, expected))


def judged(number: int, stream: Stream, expected: Expected) -> Ended:
    """What became of a stream."""
    if stream.answer is None:
        return Ended(number, Verdict(), stream.error, 0.0, 0)
    recoveries = stream.answer.recoveries + stream.answer.resumed
    return Ended(number, compare(expected.answer, stream.answer), "", excess(stream, expected), recoveries)
