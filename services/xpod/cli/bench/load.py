"""Asks as told, and keeps what happened to each request.

Knows: HTTP streams, a number of clients or times of arrival, and what kind of failure each error is.
Does not know: what is asked, or which figures come of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from xpod.cli.bench.target import Target
from xpod.cli.bench.trace import BadStream, Trace
from xpod.cli.bench.workload import Job
from xpod.cli.readiness import reason_of
from xpod.cli.sse import SseParser
from xpod.cli.trust import context

CONNECT_SECONDS = 5.0
UNREACHABLE_KIND = "unreachable"


@dataclass(frozen=True, slots=True)
class Failure:
    """`kind` is a row of the error table; `message` says more."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A request that has ended. `late` is how long after its time it was sent."""

    job: Job
    trace: Trace
    late: float
    failure: Failure | None = None


@dataclass(slots=True)
class Measurement:
    """Grows while requests end, and can be read at any time."""

    outcomes: list[Outcome] = field(default_factory=list)
    sent: int = 0
    began: float = 0.0
    ended: float = 0.0


class Load:
    """Sends jobs to a target; each outcome goes into the measurement as soon as it is known."""

    def __init__(
        self, http: httpx.AsyncClient, target: Target, measurement: Measurement, tell: Callable[[], None]
    ) -> None:
        self._http = http
        self._target = target
        self._measurement = measurement
        self._tell = tell

    async def closed(self, jobs: Iterable[Job], clients: int) -> None:
        """So many clients, each of which asks again as soon as it has its answer."""
        self._begin()
        waiting = iter(jobs)
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client(waiting))

    async def open(self, jobs: Iterable[Job], due: Sequence[float]) -> None:
        """Each job at its time, whether or not those before it have ended."""
        self._begin()
        async with asyncio.TaskGroup() as group:
            for job, offset in zip(jobs, due, strict=True):
                group.create_task(self._at(job, self._measurement.began + offset))

    def _begin(self) -> None:
        self._measurement.began = self._measurement.ended = time.monotonic()

    async def _client(self, waiting: Iterable[Job]) -> None:
        for job in waiting:
            await self._ask(job, time.monotonic())

    async def _at(self, job: Job, due: float) -> None:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await self._ask(job, due)

    async def _ask(self, job: Job, due: float) -> None:
        """Times count from when the job was due: a late start is the client's wait too."""
        trace = Trace(due)
        late = time.monotonic() - due
        self._measurement.sent += 1
        failure = await asked(self._http, self._target.url(job.index), self._target.body(job), trace)
        self._measurement.ended = time.monotonic()
        self._measurement.outcomes.append(Outcome(job, trace, late, failure))
        self._tell()


async def asked(http: httpx.AsyncClient, url: str, body: Mapping[str, Any], trace: Trace) -> Failure | None:
    """Sends one request and follows its stream into the trace; None: it came to its end."""
    try:
        await _stream(http, url, body, trace)
    except BadStream as bad:
        return Failure(bad.kind, bad.message)
    except httpx.HTTPError as error:
        return Failure(_kind_of(error), str(error) or type(error).__name__)
    return None


async def _stream(http: httpx.AsyncClient, url: str, body: Mapping[str, Any], trace: Trace) -> None:
    async with http.stream("POST", url, json=body) as response:
        if response.status_code != httpx.codes.OK:
            await response.aread()
            raise BadStream(f"HTTP {response.status_code}", reason_of(response))
        parser = SseParser()
        async for chunk in response.aiter_raw():
            now = time.monotonic()
            for event in parser.feed(chunk):
                trace.add(event.data, now)
    trace.finish()


def http_client(api_key: str, silence_seconds: float) -> httpx.AsyncClient:
    """As many connections as there are requests, and no proxy or compression between."""
    headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
    return httpx.AsyncClient(
        timeout=httpx.Timeout(silence_seconds, connect=CONNECT_SECONDS, pool=None),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        headers=headers,
        trust_env=False,
        verify=context(),
    )


def _kind_of(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return UNREACHABLE_KIND
    return "timeout" if isinstance(error, httpx.TimeoutException) else "connection lost"
