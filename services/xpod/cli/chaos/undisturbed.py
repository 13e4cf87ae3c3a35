"""What streams do without faults, and how long clients waited beside that.

Knows: what a gap is. Does not know: faults.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from xpod.cli.answer import Answer
from xpod.cli.chaos.requests import Body
from xpod.cli.chaos.streams import Stream, Streams
from xpod.cli.chaos.target import Target
from xpod.cli.errors import CliError

RUNS = 3
"""So many runs without faults say when streams begin."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A stream without faults: its answer, and when its first token came under the same load (seconds)."""

    answer: Answer
    first: float


class Round(NamedTuple):
    """Streams that begin at once, and what becomes of them without faults.

    `firsts`: seconds until so many of them have begun, one number each. Which of them is first is chance: what they
    wait for is served in turn.
    """

    bodies: list[Body]
    answers: list[Answer]
    firsts: list[float]


def fault_free(target: Target, bodies: list[Body]) -> list[Expected]:
    """The streams, undisturbed. Raises CliError: a stream failed."""
    streams = Streams(target.endpoints, bodies)
    streams.start()
    streams.join()
    found = []
    for stream in streams.streams:
        if stream.answer is None:
            raise CliError(f"a stream failed without any fault: {stream.error}")
        found.append(Expected(stream.answer, stream.first))
    return found


def undisturbed(target: Target, bodies: list[Body]) -> Round:
    """The streams as they are in most of some runs without faults. Raises CliError: a stream failed."""
    fault_free(target, bodies)  # the first of its kind loads what later ones find
    runs = [fault_free(target, bodies) for _ in range(RUNS)]
    begun = zip(*(sorted(each.first for each in run) for run in runs), strict=True)
    return Round(bodies, [each.answer for each in runs[0]], [median(firsts) for firsts in begun])


def excess(stream: Stream, expected: Expected) -> float:
    """The longest pause of a stream that ended well, or how much later than without faults it began: seconds."""
    return max(stream.gap, stream.first - expected.first)


def longest_gap(streams: Iterable[Stream], usual: Sequence[float], since: float = 0.0) -> float:
    """The longest that any client waited for what came after `since`, in seconds, of streams that began at once.

    Between two chunks; or, for the first, how much later so many of them had begun than without faults. `usual` has
    the seconds that this takes; streams without an answer are left out. `since` is a time of the monotonic clock.
    """
    ended = [stream for stream in streams if stream.answer is not None]
    begun = sorted(ended, key=lambda stream: stream.first)
    late = (
        stream.first - before
        for stream, before in zip(begun, usual, strict=False)
        if stream.began + stream.first >= since
    )
    return max((*late, *(stream.gap_since(since) for stream in ended)), default=0.0)
