"""All contenders, in turn, round after round.

Knows: the order, and that only one of them runs at a time. What it has found can be read at any time.
Does not know: what contenders are, or which figures are worth what.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from xpod.cli.bench.compare.cases import WARMUP, Case
from xpod.cli.bench.compare.contender import Contender, Session
from xpod.cli.bench.compare.disturbance import Disturbance
from xpod.cli.bench.compare.memory import pss_by_kind
from xpod.cli.bench.compare.taken import Taken
from xpod.cli.bench.showing import say

Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rounds:
    """`vocab`: token ids of prompts are below it."""

    contenders: Sequence[Contender]
    cases: Sequence[Case]
    count: int
    seed: int
    vocab: int


@dataclass(slots=True)
class Found:
    """`runs`: one record for each round, contender and case; `memory`: one for each round and contender."""

    contenders: dict[str, Json] = field(default_factory=dict)
    runs: list[Json] = field(default_factory=list)
    memory: list[Json] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return sum(bool(run["errors"]) for run in self.runs)


def measure(rounds: Rounds, found: Found) -> None:
    """Adds to `found` as it goes. Raises CliError where a contender cannot be started, or dies."""
    for contender in rounds.contenders:
        contender.check()
    for number in range(rounds.count):
        for contender in in_turn(rounds.contenders, number):
            say(f"round {number + 1} of {rounds.count}: {contender.name}")
            with contender.running() as session:
                found.contenders[contender.name] = session.facts
                who = {"round": number, "contender": contender.name}
                for run in _runs(rounds, number, session):
                    found.runs.append({**who, **run})
                memory = pss_by_kind(session.processes())
                if memory:
                    found.memory.append({**who, "pss_bytes": memory})


def in_turn(contenders: Sequence[T], number: int) -> list[T]:
    """Another one begins each round, so that being first or last is nobody's lot."""
    start = number % len(contenders)
    return [*contenders[start:], *contenders[:start]]


def _runs(rounds: Rounds, number: int, session: Session) -> Iterator[Json]:
    """Each case's record, as soon as it is there."""
    for case in WARMUP:
        say(f"  {case.name}")
        session.take(case, case.prompts(rounds.seed, number, rounds.vocab))
    pids = [pid for _, pid in session.processes()]
    for case in rounds.cases:
        disturbance = Disturbance(pids)
        taken = session.take(case, case.prompts(rounds.seed, number, rounds.vocab))
        others = disturbance.cores()
        say(f"  {_told(taken)}")
        yield {**taken.as_json(), "others_cores": None if others is None else round(others, 3)}


def _told(taken: Taken) -> str:
    if taken.errors:
        return f"{taken.case.name} failed: {taken.errors[0]}"
    figures = taken.figures().items()
    return ", ".join(f"{name} {'?' if value is None else f'{value:.1f}'}" for name, value in figures)
