"""A server of OpenAI's API as a contender, asked over HTTP as its clients would.

Knows: how a case becomes streamed requests, and their traces become a run.
Does not know: who started the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from xpod.cli.bench.compare.cases import Case, Prompts
from xpod.cli.bench.compare.taken import Stream, Taken
from xpod.cli.bench.load import Load, Measurement, Outcome, http_client
from xpod.cli.bench.target import Target, negotiated
from xpod.cli.bench.workload import Job

SILENCE_SECONDS = 300.0
PROBE = Job(0, [17, 18, 19, 20], 4, 1)


class ServedSession:
    """Raises CliError where no server answers at the URLs, or where it takes no token ids."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._target = asyncio.run(_negotiated(Target(tuple(urls), "completions", "", 0.0)))
        self.facts: dict[str, Any] = {
            "model": self._target.model,
            "extensions": list(self._target.extensions),
            "routers": len(urls),
        }

    def take(self, case: Case, prompts: Prompts) -> Taken:
        """All prompts at once."""
        jobs = [Job(index, prompt, len(prompt), case.output_tokens) for index, prompt in enumerate(prompts)]
        return taken_from(case, asyncio.run(_measured(self._target, jobs)))

    def processes(self) -> list[tuple[str, int]]:
        return []


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs already, and goes on."""

    name: str
    urls: tuple[str, ...]

    def check(self) -> None:
        ServedSession(self.urls)

    @contextmanager
    def running(self) -> Iterator[ServedSession]:
        yield ServedSession(self.urls)


def taken_from(case: Case, measured: Measurement) -> Taken:
    """The run that a measurement shows. Whatever would make its figures mean something else is an error."""
    errors = [f"{each.failure.kind}: {each.failure.message}" for each in measured.outcomes if each.failure]
    good = [outcome for outcome in measured.outcomes if outcome.failure is None]
    short = sum(outcome.trace.output_tokens < case.output_tokens for outcome in good)
    cached = sum(outcome.trace.cached_tokens for outcome in good)
    errors += [f"{short} of {case.sequences} answers ended early"] if short else []
    errors += [f"{cached} prompt tokens came from a cache"] if cached else []
    streams = tuple(_stream(outcome, measured.began) for outcome in good)
    recoveries = sum(outcome.trace.recoveries for outcome in good)
    seconds = measured.ended - measured.began
    return Taken(
        case, seconds, streams, tuple(errors), facts={"recoveries": recoveries} if recoveries else {}
    )


def _stream(outcome: Outcome, began: float) -> Stream:
    trace = outcome.trace
    return Stream(tuple(at - began for at in trace.arrivals), tuple(trace.counts), trace.output_tokens)


async def _negotiated(target: Target) -> Target:
    async with http_client("", SILENCE_SECONDS) as http:
        return await negotiated(http, target, PROBE)


async def _measured(target: Target, jobs: Sequence[Job]) -> Measurement:
    measurement = Measurement()
    async with http_client("", SILENCE_SECONDS) as http:
        await Load(http, target, measurement, lambda: None).closed(jobs, len(jobs))
    return measurement
