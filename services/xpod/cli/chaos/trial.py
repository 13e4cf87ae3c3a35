"""One trial: streams under way, one fault at a random moment of a phase, and how every stream ended.

Knows: what each phase's moment is. Does not know: how results are added up or shown.
"""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from xpod.cli.chaos.oracle import Verdict, compare
from xpod.cli.chaos.requests import MAX_TOKENS
from xpod.cli.chaos.streams import Streams
from xpod.cli.chaos.target import POD, Signal, Target
from xpod.cli.chaos.undisturbed import Round, longest_gap
from xpod.cli.errors import CliError

Phase = Literal["idle", "prefill", "transfer", "decode", "stream"]
PHASES: tuple[Phase, ...] = ("idle", "prefill", "transfer", "decode", "stream")
TRANSFER_SECONDS = 0.05
"""From a session's first token on, for about so long its blocks travel."""


COUNTERS = ("reopened", "recomputed", "recomputed_far")
Counted = dict[tuple[str, str], list[int]]


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of fault."""

    kind: str
    signal: Signal
    phase: Phase


@dataclass(frozen=True, slots=True)
class Again:
    """Sessions that another decode worker went on with, tokens that were computed again, sessions with over a block."""

    reopened: int
    recomputed: int
    far: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trial. `gap` is the longest that any client waited beyond what it does without faults, in seconds.

    `whole` is how long it took, from the fault or from the end of a STOP, until the pod had all its redundancy.
    `again` counts what decode workers computed a second time; None where all of the pod was lost and began anew.
    """

    cell: Cell
    member: str
    verdicts: list[Verdict]
    errors: list[str]
    gap: float
    recoveries: int
    whole: float
    again: Again | None = None

    @property
    def wrong(self) -> int:
        """Streams that failed or differ."""
        return len(self.errors) + sum(not verdict.right for verdict in self.verdicts)


def run_trial(target: Target, cell: Cell, usual: Round, rng: random.Random) -> Outcome:
    """Raises CliError where the pod does not become whole again."""
    member = rng.choice(target.members(cell.kind))
    before = target.counted(*COUNTERS)
    streams = Streams(target.endpoints, usual.bodies)
    moment = _await_moment(cell.phase, streams, usual, rng)
    fault = target.hit(member, cell.signal)
    if cell.phase == "idle":
        streams.start()
    watch = Watch(target) if cell.signal == "KILL" else None
    streams.join()
    if watch is None:
        target.wake(fault)
        watch = Watch(target)
    whole = watch.result()
    verdicts, recoveries = [], 0
    for stream, answer in zip(streams.streams, usual.answers, strict=True):
        if stream.answer is not None:
            verdicts.append(compare(answer, stream.answer))
            recoveries += stream.answer.recoveries + stream.answer.resumed
    errors = [stream.error for stream in streams.streams if stream.error]
    again = None if cell.kind == POD else Again(*grown(before, target.counted(*COUNTERS), len(COUNTERS)))
    gap = longest_gap(streams.streams, usual.firsts, moment)
    return Outcome(cell, member, verdicts, errors, gap, recoveries, whole, again)


def run_without(target: Target, phase: Phase, usual: Round, rng: random.Random) -> float:
    """A trial without its fault: the longest gap after the moment, in seconds. Raises CliError: a stream is wrong."""
    streams = Streams(target.endpoints, usual.bodies)
    moment = _await_moment(phase, streams, usual, rng)
    if phase == "idle":
        streams.start()
    streams.join()
    for stream, answer in zip(streams.streams, usual.answers, strict=True):
        if stream.answer is None or not compare(answer, stream.answer).right:
            raise CliError(f"a stream is wrong without any fault: {stream.error or stream.answer}")
    return longest_gap(streams.streams, usual.firsts, moment)


def grown(before: Counted, after: Counted, counters: int) -> list[int]:
    """How much was counted in between, summed; a process that is new began at 0."""
    zero = [0] * counters
    deltas = [[a - b for a, b in zip(after[key], before.get(key, zero), strict=True)] for key in after]
    return [sum(column) for column in zip(zero, *deltas, strict=True)]


class Watch:
    """Waits, beside everything else, until the pod is whole again."""

    def __init__(self, target: Target) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._whole = self._pool.submit(target.wait_whole)

    def result(self) -> float:
        """Seconds from the beginning of the watch. Raises CliError where it never became whole."""
        with self._pool:
            return self._whole.result()


def _await_moment(phase: Phase, streams: Streams, usual: Round, rng: random.Random) -> float:
    """Start the streams, unless they are to be idle, and return at a random moment of the phase, with its time."""
    number = rng.randrange(len(streams.streams))
    if phase != "idle":
        streams.start()
    match phase:
        case "prefill":
            time.sleep(rng.uniform(0.0, usual.firsts[-1]))
        case "transfer":
            streams.wait_for_any()
            time.sleep(rng.uniform(0.0, TRANSFER_SECONDS))
        case "decode":
            streams.wait_for(number, rng.randint(2, MAX_TOKENS // 2))
        case "stream":
            streams.wait_for(number, rng.randint(MAX_TOKENS // 2, MAX_TOKENS - 8))
        case "idle":
            pass
    return time.monotonic()
