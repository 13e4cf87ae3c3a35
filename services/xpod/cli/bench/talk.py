"""A conversation's side of a pod: connected, agreed on extensions, warmed up.

Knows: what a measurement of token ids needs from a server, and that an answer of another length is a failure.
Does not know: what is asked after the warm-up, or which figures come of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx

from xpod.cli.bench.load import Failure, asked, http_client
from xpod.cli.bench.target import CACHE_KEY, EXTENSIONS, Target, negotiated
from xpod.cli.bench.trace import Trace
from xpod.cli.bench.workload import Job, Lengths, Workload
from xpod.cli.errors import REFUSED, CliError
from xpod.cli.trust import key

SILENCE_SECONDS = 300.0
PROBE = Job(0, [17, 18, 19, 20], 4, 1, cache_key="probe")
WARMUP_TOKENS = 8
WARMUP_WAVES = 2
WAVES_A_WORKER = 2
"""Prompts in a wave for each worker, so that every one gets some, whoever is asked."""


@dataclass(frozen=True, slots=True)
class Talk:
    """`more`, in `ask`, are further parameters of the request."""

    http: httpx.AsyncClient
    target: Target

    async def ask(self, job: Job, **more: Any) -> tuple[Trace, Failure | None]:
        """One request, from now on."""
        body = self.target.body(job) | more
        trace = Trace(time.monotonic())
        failure = await asked(self.http, self.target.url(job.index), body, trace)
        if failure is None and len(trace.tokens) != job.output_tokens:
            failure = Failure("ended early", f"{len(trace.tokens)} tokens instead of {job.output_tokens}")
        return trace, failure

    async def warm_up(self, workers: int, workload: Workload) -> None:
        """Prompts that nobody asks again. Raises CliError where one fails."""
        count = WAVES_A_WORKER * workers
        jobs = [
            replace(job, cache_key=f"warm-up {job.index}") for job in workload.warmup(WARMUP_WAVES * count)
        ]
        for first in range(0, len(jobs), count):
            for _, failure in await asyncio.gather(*map(self.ask, jobs[first : first + count])):
                if failure is not None:
                    raise CliError(f"warming up failed: {failure.kind}: {failure.message}", REFUSED)


@asynccontextmanager
async def talking(urls: tuple[str, ...]) -> AsyncIterator[Talk]:
    """Raises CliError where no server answers, or where it leaves out what is measured."""
    async with http_client(key(), SILENCE_SECONDS) as http:
        wanted = Target(urls, "completions", "", 0.0, (CACHE_KEY, *EXTENSIONS))
        target = await negotiated(http, wanted, PROBE)
        for name in EXTENSIONS:
            if name not in target.extensions:
                raise CliError(f"{urls[0]} does not take {name}, without which nothing is known", REFUSED)
        yield Talk(http, target)


def warmup_of(seed: int, prompt_tokens: int, vocab: int) -> Workload:
    length, output = Lengths(prompt_tokens, prompt_tokens), Lengths(WARMUP_TOKENS, WARMUP_TOKENS)
    return Workload(seed, length, output, "tokens", vocab)
