"""One thread for heavy work, so that the event loop stays free.

Knows: how to hand work over and bring results back with little overhead; how long the thread was busy.
Does not know: torch, or what the work is.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

import structlog

P = ParamSpec("P")
R = TypeVar("R")
IDLE_SECONDS = 0.3
log = structlog.get_logger(__name__)


class _Job(NamedTuple):
    work: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    result: asyncio.Future[Any]


class Resting:
    """A plain object instead of a generator: the hop enters it several times a layer."""

    def __init__(self, thread: ComputeThread) -> None:
        self._thread = thread

    def __enter__(self) -> None:
        self._thread.rest()

    def __exit__(self, *_: object) -> None:
        self._thread.resume()


class ComputeThread:
    """Runs functions one after another on a thread of its own, in the order of `run` calls.

    A long piece of work lets others in with `breathe`; it learns of them by `nudge`, which is called, from any
    thread, whenever work was handed over. `idle` is called on the thread every IDLE_SECONDS without work.
    """

    def __init__(self, name: str = "compute", initializer: Callable[[], None] | None = None) -> None:
        self.nudge: Callable[[], None] = _nothing
        self.idle: Callable[[], None] = _nothing
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._initializer = initializer
        self._resting = Resting(self)
        self._busy = 0.0
        self._since = 0.0
        self._waiting = 0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def busy_seconds(self) -> float:
        """Seconds spent in work since the start, the running piece included."""
        since = self._since
        return self._busy + (time.perf_counter() - since if since else 0.0)

    @property
    def waiting(self) -> int:
        """Pieces of work handed over and not yet done."""
        return self._waiting

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs `function` on the thread and returns its result or raises its exception.

        A cancelled caller does not interrupt work that has begun; work not yet begun is skipped.
        Raises RuntimeError after `close`.
        """
        if self._closed:
            raise RuntimeError("the compute thread was closed")
        loop = asyncio.get_running_loop()
        result: asyncio.Future[R] = loop.create_future()
        self._waiting += 1
        self._jobs.put(_Job(lambda: function(*args, **kwargs), loop, result))
        self.nudge()
        return await result

    def breathe(self) -> None:
        """Called by work on the thread: does what was handed over meanwhile."""
        while not self._jobs.empty():
            job = self._jobs.get_nowait()
            if job is None:  # the end of the thread is for `_work` to see
                self._jobs.put(None)
                return
            self._do(job)

    def resting(self) -> Resting:
        """Called by work on the thread: what happens inside `with` does not count as busy."""
        return self._resting

    def rest(self) -> None:
        """The beginning of `resting`."""
        self._busy += time.perf_counter() - self._since
        self._since = 0.0

    def resume(self) -> None:
        """The end of `resting`."""
        self._since = time.perf_counter()

    async def close(self) -> None:
        """Finishes the work handed over so far and ends the thread. Calling it twice is fine."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        if self._initializer is not None:
            self._initializer()
        while (job := self._next()) is not None:
            self._since = time.perf_counter()
            self._do(job)
            self._busy += time.perf_counter() - self._since
            self._since = 0.0

    def _next(self) -> _Job | None:
        while True:
            try:
                return self._jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                self.idle()

    def _do(self, job: _Job) -> None:
        outcome, error = _attempt(job)
        try:
            job.loop.call_soon_threadsafe(self._settle, job.result, outcome, error)
        except RuntimeError:  # the loop is closed: nobody is left to hear of it
            log.warning("result lost, the event loop is closed")

    def _settle(self, result: asyncio.Future[Any], outcome: Any, error: BaseException | None) -> None:
        self._waiting -= 1
        if result.done():  # its caller was cancelled
            return
        if error is None:
            result.set_result(outcome)
        else:
            result.set_exception(error)


def _nothing() -> None:
    pass


def _attempt(job: _Job) -> tuple[Any, BaseException | None]:
    if job.result.cancelled():
        return None, None
    try:
        return job.work(), None
    except StopIteration as error:  # a future cannot carry it
        wrapped = RuntimeError("the work raised StopIteration")
        wrapped.__cause__ = error
        return None, wrapped
    except BaseException as error:  # noqa: BLE001 - it is raised again at the caller
        return None, error
