"""One measurement, from the first question to the report.

Knows: its order (negotiate, warm up, measure), its parameters, and the progress that is shown on stderr.
Does not know: options or exit codes.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx

from xpod.cli.bench.load import UNREACHABLE_KIND, Load, Measurement, http_client
from xpod.cli.bench.report import as_json
from xpod.cli.bench.surroundings import machine, versions
from xpod.cli.bench.target import Target, asked_for_json, negotiated
from xpod.cli.bench.workload import Job, Workload

if TYPE_CHECKING:
    from rich.progress import Progress

PROBE_INDEX = -1_000_000_000
PROBE_LENGTH = 8
REPORT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. One of `clients` (closed loop) and `rate` (open loop, per second) is None."""

    target: Target
    workload: Workload
    requests: int
    warmup: int
    clients: int | None
    rate: float | None
    silence_seconds: float
    api_key: str = ""


class Run:
    """`measure` once; `report` at any time after it began, also when it was interrupted."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._target = plan.target
        self._measured = Measurement()
        self._warmed = Measurement()
        self._server: dict[str, Any] = {}
        self._cpu_seconds = 0.0
        self._surroundings: dict[str, Any] = {}
        self._started = ""
        self.interrupted = False

    def measure(self) -> None:
        """Raises CliError where no request can be measured, KeyboardInterrupt where it was interrupted."""
        self._surroundings = {"machine": machine(), "versions": versions()}
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        asyncio.run(self._measure())

    @property
    def began(self) -> bool:
        return bool(self._measured.began)

    @property
    def failed(self) -> int:
        return sum(outcome.failure is not None for outcome in self._measured.outcomes)

    @property
    def nothing_reached(self) -> bool:
        kinds = [outcome.failure and outcome.failure.kind for outcome in self._measured.outcomes]
        return bool(kinds) and all(kind == UNREACHABLE_KIND for kind in kinds)

    def report(self) -> dict[str, Any]:
        return {
            "bench": "serve",
            "report_version": REPORT_VERSION,
            "started": self._started,
            "interrupted": self.interrupted,
            "parameters": self._parameters(),
            "server": {"extensions": list(self._target.extensions), **self._server},
            **as_json(self._measured),
            "warmup": self._warmup(),
            "client_cpu_s": round(self._cpu_seconds, 3),
            **self._surroundings,
        }

    async def _measure(self) -> None:
        plan = self._plan
        async with http_client(plan.api_key, plan.silence_seconds) as http:
            probe = plan.workload.job(PROBE_INDEX)
            self._target = await negotiated(http, plan.target, _shortened(probe))
            self._server = await _server_of(http, self._target.urls)
            if plan.warmup:
                await self._load(http, self._warmed, "warming up", plan.workload.warmup(plan.warmup))
            before = time.process_time()
            try:
                await self._load(http, self._measured, "measuring", plan.workload.jobs(plan.requests))
            finally:
                self._cpu_seconds = time.process_time() - before

    async def _load(
        self, http: httpx.AsyncClient, measurement: Measurement, words: str, jobs: Iterable[Job]
    ) -> None:
        plan = self._plan
        count = plan.requests if measurement is self._measured else plan.warmup
        with _progress() as progress:
            task = progress.add_task(words, total=count)
            load = Load(http, self._target, measurement, lambda: progress.advance(task))
            if plan.clients is not None:
                await load.closed(jobs, min(plan.clients, count))
            else:
                assert plan.rate is not None
                await load.open(jobs, plan.workload.arrivals(plan.rate, count))

    def _parameters(self) -> dict[str, Any]:
        plan, workload = self._plan, self._plan.workload
        return {
            "urls": list(self._target.urls),
            "endpoint": self._target.endpoint,
            "model": self._target.model,
            "concurrency": plan.clients,
            "rate": plan.rate,
            "requests": plan.requests,
            "warmup": plan.warmup,
            "prompt_tokens": [workload.prompt.low, workload.prompt.high],
            "output_tokens": [workload.output.low, workload.output.high],
            "prompt_as": workload.prompt_as,
            "vocab": workload.vocab,
            "temperature": self._target.temperature,
            "seed": workload.seed,
            "request_timeout_s": plan.silence_seconds,
        }

    def _warmup(self) -> dict[str, int]:
        failed = sum(outcome.failure is not None for outcome in self._warmed.outcomes)
        return {"requests": len(self._warmed.outcomes), "failed": failed}


def _shortened(probe: Job) -> Job:
    """The same kind of prompt, and next to no work."""
    prompt = probe.prompt[:PROBE_LENGTH]
    return Job(probe.index, prompt, None if probe.prompt_tokens is None else len(prompt), 1)


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(file=sys.stderr)
    return Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True)


async def _server_of(http: httpx.AsyncClient, urls: Iterable[str]) -> dict[str, Any]:
    """What the first server that answers says about its version; nothing where it does not say."""
    for url in urls:
        try:
            return {"version": (await asked_for_json(http, f"{url}/version")).get("version")}
        except httpx.TransportError:
            continue
    return {}
