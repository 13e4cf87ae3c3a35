"""Constant load: so many streams at any time, each compared when it ends and replaced by a new one.

Knows: requests with their fault-free answers. Does not know: faults.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xpod.cli.chaos.oracle import Verdict, compare
from xpod.cli.chaos.requests import Body
from xpod.cli.chaos.streams import Stream
from xpod.cli.chaos.undisturbed import Expected, excess


@dataclass(frozen=True, slots=True)
class Ended:
    """A stream that is over; `gap` and `lasted` in seconds, `gap` 0 where it failed."""

    number: int
    verdict: Verdict
    error: str
    gap: float
    lasted: float
    recoveries: int

    @property
    def right(self) -> bool:
        return not self.error and self.verdict.right

    def __str__(self) -> str:
        if not self.right:
            return f"stream {self.number} is wrong: {self.error or repr(self.verdict)}"
        return (
            f"stream {self.number}: {self.lasted:.1f} s, gap {self.gap:.2f} s, {self.recoveries} recoveries"
        )


class Load:
    """`start` it, `stop` it; `ended` grows meanwhile."""

    def __init__(
        self,
        endpoints: Sequence[str],
        bodies: list[Body],
        expected: list[Expected],
        seed: int,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`tell` hears of every stream that ends, in words."""
        self._tell = tell
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
            ended = judged(number, stream, expected)
            self.ended.append(ended)
            self._tell(str(ended))


def judged(number: int, stream: Stream, expected: Expected) -> Ended:
    """What became of a stream."""
    lasted = time.monotonic() - stream.began
    if stream.answer is None:
        return Ended(number, Verdict(), stream.error, 0.0, lasted, 0)
    recoveries = stream.answer.recoveries + stream.answer.resumed
    verdict = compare(expected.answer, stream.answer)
    return Ended(number, verdict, "", excess(stream, expected), lasted, recoveries)
