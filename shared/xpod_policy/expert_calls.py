"""What becomes of expert calls: which are asked of others as well, which again, and which count no more.

    posted → answered
    posted → late → asked of others as well (hedged), or anew → answered, by whoever is first
    posted → failed → asked again: of others, a moment later, or in smaller calls

An expert call is a pure function: the same pairs may be asked for as often as one likes, and the first answer counts.
Times are seconds of any one clock, handed in by the caller. Knows neither how a call is sent, nor who serves an expert.
Source: hedged requests, "The Tail at Scale" (Dean and Barroso, CACM 2013).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from xpod_policy.hedging import Latencies
from xpod_policy.holdings import ShardRows

Array = npt.NDArray[Any]

CUT_OFF_SECONDS, CUT_OFF_PATIENCE = 1.0, 0.25
"""For so long after our own connection was lost, shards may be cut off, too: a call is hedged after so long."""
PATIENCE_GROWS = 4
"""With each attempt that nobody answers, so that a machine that is only slow is not given ever more to do."""
ALONE_SECONDS = 1.0
"""A shard that alone serves some expert is asked again after this at the earliest."""


class Cause(Enum):
    """Why a call failed."""

    REFUSED = "the shard answered with an error, or with what is none of its answers"
    LOST = "the shard's process is gone, or it did not answer in time"
    CUT_OFF = "our own connection was lost"
    TOO_LARGE = "the call or its answer is too large for the way, and can be cut"


class Next(Enum):
    """What to do about a call that failed or is late."""

    WAIT = "what it asks for is under way"
    ELSEWHERE = "ask for its pairs again, of others"
    LATER = "ask for its pairs in a moment, of anybody"
    SMALLER = "ask for its pairs in smaller calls"
    HEDGE = "ask others for its pairs as well"
    ANEW = "ask whoever serves its pairs by now, and count on none of the calls before"


@dataclass(slots=True, eq=False)
class Question:
    """A layer's chosen `experts` `[T, K]`; `calls` for them are waited for, of other shards than `avoid`."""

    layer: int
    experts: Array
    calls: int = field(default=0, init=False)
    avoid: frozenset[str] = field(default=frozenset(), init=False)


Q = TypeVar("Q", bound=Question)


@dataclass(slots=True, eq=False)
class Call(Generic[Q]):
    """A call under way. `hedges` are calls for the same pairs; `hedged` is the call that this one is a hedge of.

    Nobody answered the `tries` before it. `late`: what it was asked for is there already; its answer only says that the
    shard answers.
    """

    question: Q
    part: ShardRows
    posted: float
    deadline: float
    hedge_at: float
    tries: int = 0
    hedges: set[int] = field(default_factory=set)
    hedged: int = 0
    late: bool = False

    def pairs(self) -> Array:
        """The experts `[T, K]` that it asks for, -1 elsewhere."""
        experts = self.question.experts
        wanted = np.full_like(experts, -1)
        wanted.reshape(-1)[self.part.place] = experts.reshape(-1)[self.part.place]
        return wanted


class CallBook(Generic[Q]):
    """The calls under way, by ticket. `slow` shards let a hedge win and have not answered since: others are asked."""

    def __init__(self, call_timeout: float, *, hedging: bool = True) -> None:
        self.under_way: dict[int, Call[Q]] = {}
        self.slow: set[str] = set()
        self._call_timeout, self._hedging = call_timeout, hedging
        self._latencies = Latencies()
        self._hedge_at = math.inf
        """No call is to be hedged before."""
        self._cut_off_at = -math.inf

    def posted(
        self, ticket: int, question: Q, part: ShardRows, now: float, tries: int = 0, *, spare: bool = True
    ) -> None:
        """A call went out. `spare`: others may serve some of its layer's experts as well."""
        hedge_at = now + self._call_timeout
        if self._hedging:
            hedge_at = now + self._patience(part.place.size, now, tries, spare)
            self._hedge_at = min(self._hedge_at, hedge_at)
        self.under_way[ticket] = Call(question, part, now, now + self._call_timeout, hedge_at, tries)
        question.calls += 1

    def _patience(self, pairs: int, now: float, tries: int, spare: bool) -> float:
        patience = self._latencies.patience(pairs)
        if now - self._cut_off_at < CUT_OFF_SECONDS:
            patience = min(patience, CUT_OFF_PATIENCE)
        patience *= float(PATIENCE_GROWS**tries)
        return patience if spare else max(ALONE_SECONDS, PATIENCE_GROWS * patience)

    # time passes

    @property
    def next_at(self) -> float:
        """Until then, `expired` and `due` have nothing to say. All deadlines are equally long: the oldest is first."""
        oldest = next(iter(self.under_way.values()), None)
        return math.inf if oldest is None else min(oldest.deadline, self._hedge_at)

    def expired(self, now: float) -> list[int]:
        """Tickets of calls that nobody waits for any longer: they failed."""
        return [ticket for ticket, call in self.under_way.items() if call.deadline <= now]

    def due(self, now: float) -> list[tuple[int, Call[Q]]]:
        """Calls that take too long: ask `late` about each."""
        calls = self.under_way
        self._hedge_at = min(
            (call.hedge_at for call in calls.values() if call.hedge_at > now), default=math.inf
        )
        return [(ticket, call) for ticket, call in calls.items() if call.hedge_at <= now]

    def late(self, call: Call[Q], now: float, *, others: bool) -> Next:
        """HEDGE, ANEW or WAIT. `others`: all of its pairs are served by other shards, too."""
        if call.hedges:  # their answers, or what was asked, may have been lost with a server
            self._forgo(call)
            return Next.ANEW
        waited = now - call.posted
        if not others and waited >= ALONE_SECONDS:  # what it was asked, or its answer, may be lost
            self._forgo(call)
            return Next.ANEW
        call.hedge_at = now + PATIENCE_GROWS * waited
        if not others:
            call.hedge_at = min(call.hedge_at, call.posted + ALONE_SECONDS)
        self._hedge_at = min(self._hedge_at, call.hedge_at)
        return Next.HEDGE if others else Next.WAIT

    def hedged(self, ticket: int, call: Call[Q], hedges: list[int]) -> None:
        """Those were posted for the pairs of the call with that ticket."""
        call.hedges.update(hedges)
        for hedge in hedges:
            self.under_way[hedge].hedged, self.under_way[hedge].hedge_at = ticket, math.inf

    # answers arrive, or do not

    def arrived(self, ticket: int) -> Call[Q] | None:
        """The call that was answered, or failed; None where nobody waits for that. To be told what came of it next."""
        call = self.under_way.pop(ticket, None)
        if call is None:
            return None
        if call.late:
            self.slow.discard(call.part.shard)
            return None
        call.question.calls -= 1
        return call

    def answered(self, ticket: int, call: Call[Q], now: float) -> None:
        """It brought what it was asked for: of a call and its hedges, those whose pairs are all there now are late."""
        self._latencies.took(call.part.place.size, now - call.posted)
        for hedge in call.hedges:
            self._outdo(self.under_way[hedge])
        first = self.under_way.get(call.hedged) if call.hedged else None
        if first is not None:
            first.hedges.discard(ticket)
            if not first.hedges:
                self.slow.add(first.part.shard)
                self._outdo(first)

    def failed(self, call: Call[Q], cause: Cause, now: float) -> Next:
        """WAIT, ELSEWHERE, LATER or SMALLER."""
        if cause is Cause.CUT_OFF:
            self._cut_off_at = now
        if self._covered(call):
            return Next.WAIT
        if cause is Cause.TOO_LARGE:
            return Next.SMALLER
        if cause is Cause.CUT_OFF:  # whom we asked is as good as anybody
            return Next.LATER
        call.question.avoid |= {call.part.shard}
        return Next.ELSEWHERE

    def lost(self, shard: str) -> list[int]:
        """Its process is gone: tickets of the calls that failed with it."""
        self.slow.discard(shard)
        return [ticket for ticket, call in self.under_way.items() if call.part.shard == shard]

    def forget(self, questions: Collection[Q]) -> list[int]:
        """Nobody waits for the calls of these, nor for late answers; their tickets."""
        tickets = [ticket for ticket, call in self.under_way.items() if call.question in questions]
        for ticket in tickets:
            del self.under_way[ticket]
        self.slow.clear()
        return tickets

    def _covered(self, call: Call[Q]) -> bool:
        """Whether what a failed call was asked for is under way elsewhere."""
        first = self.under_way.get(call.hedged) if call.hedged else None
        if first is not None:  # the call itself goes on, without its hedges
            for hedge in first.hedges & self.under_way.keys():
                self._outdo(self.under_way[hedge])
            first.hedges.clear()
        for hedge in call.hedges:  # these are calls like others now, and may be lost as well
            self.under_way[hedge].hedged, self.under_way[hedge].hedge_at = 0, call.hedge_at
        self._hedge_at = min(self._hedge_at, call.hedge_at)
        return first is not None or bool(call.hedges)

    def _forgo(self, call: Call[Q]) -> None:
        """Neither the call nor its hedges were answered in all that time."""
        for hedge in call.hedges:
            self._outdo(self.under_way[hedge])
        call.hedges.clear()
        self._outdo(call)

    def _outdo(self, call: Call[Q]) -> None:
        """Its answer is not needed any more."""
        call.late, call.hedge_at = True, math.inf
        call.question.calls -= 1


@dataclass(slots=True)
class Homeless:
    """Pairs that nobody can be asked for now: `wanted` `[T, K]`, -1 where it is another; None: there are none.

    `version` is that of who serves what, when they were last asked for.
    """

    wanted: Array | None = None
    version: int = -1
    retry_at: float = math.inf
    give_up: float = math.inf

    def put_off(self, wanted: Array, now: float, seconds: float, patience: float) -> None:
        """These, too, for so many seconds; `patience` seconds after the first time they are given up."""
        self.wanted = wanted if self.wanted is None else np.maximum(self.wanted, wanted)
        self.retry_at = now + seconds
        self.give_up = min(self.give_up, now + patience)

    def take(self, now: float, version: int) -> Array | None:
        """The pairs to ask for again, if it is time to."""
        if version == self.version and now < self.retry_at:
            return None
        wanted, self.wanted = self.wanted, None
        return wanted
