"""A tree of tasks that are restarted when they fail, and a failure that leaves the tree when that is hopeless.

Knows: child specs as data, tasks, restarts. The decision itself is `intensity`.
Does not know: what the children do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from xpod_runtime.errors import RestartLimitExceeded
from xpod_runtime.intensity import Escalate, Intensity, Leave, RestartKind, RestartPolicy

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A child: its name, how to run it once, and when to run it again."""

    name: str
    start: Callable[[], Awaitable[None]]
    restart: RestartKind = "permanent"


@dataclass(slots=True)
class Child:
    """A spec and how it fares."""

    spec: ChildSpec
    state: str = "waiting"
    restarts: int = 0
    error: str = ""
    task: asyncio.Task[None] | None = None


CANCEL_SECONDS = 0.5


class TaskTree:
    """Runs children side by side (one for one). `run` lasts until `stop`, or raises RestartLimitExceeded."""

    def __init__(self, name: str, policy: RestartPolicy | None = None) -> None:
        self.name = name
        self.children: list[Child] = []
        self._intensity = Intensity(policy or RestartPolicy())
        self._group: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()

    def add(self, spec: ChildSpec) -> Child:
        """Adds a child; it starts with the tree, or now when the tree runs."""
        child = Child(spec)
        self.children.append(child)
        if self._group is not None:
            self._launch(self._group, child)
        return child

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as self._group:
                for child in self.children:
                    self._launch(self._group, child)
                await self._stopping.wait()
                await self._end_children()
        except BaseExceptionGroup as group:
            raise _escalation(group) from group.exceptions[0].__cause__
        finally:
            self._group = None

    def stop(self) -> None:
        """Cancels all children; `run` returns once they have ended."""
        self._stopping.set()

    def __str__(self) -> str:
        rows = [("child", "restart", "state", "restarts", "last error")]
        rows += [
            (child.spec.name, child.spec.restart, child.state, str(child.restarts), child.error)
            for child in self.children
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
        ]
        return "\n".join(line.rstrip() for line in lines)

    def _launch(self, group: asyncio.TaskGroup, child: Child) -> None:
        child.task = group.create_task(self._keep(child), name=f"{self.name}/{child.spec.name}")

    async def _end_children(self) -> None:
        """Cancels them until they end: asyncio.wait_for may swallow a cancellation that comes beside its result."""
        while running := [
            child.task for child in reversed(self.children) if child.task and not child.task.done()
        ]:
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=CANCEL_SECONDS)

    async def _keep(self, child: Child) -> None:
        """Runs one child over and over, as its spec and the tree's intensity say."""
        while True:
            error = await self._run_once(child)
            now = asyncio.get_running_loop().time()
            decision = self._intensity.ended(child.spec.restart, failed=error is not None, now=now)
            if isinstance(decision, Leave):
                if child.spec.restart == "temporary":  # such children may come by the thousand
                    self.children.remove(child)
                return
            if isinstance(decision, Escalate):
                child.state = "given up"
                raise RestartLimitExceeded(self._obituary(child, decision)) from error
            child.state, child.restarts = "restarting", child.restarts + 1
            await asyncio.sleep(decision.delay)

    async def _run_once(self, child: Child) -> Exception | None:
        child.state = "running"
        try:
            await child.spec.start()
        except Exception as error:
            child.state, child.error = "failed", f"{type(error).__name__}: {error}"
            log.exception("child failed", tree=self.name, child=child.spec.name, restarts=child.restarts)
            return error
        except asyncio.CancelledError:
            child.state = "stopped"
            raise
        child.state = "ended"
        return None

    def _obituary(self, child: Child, decision: Escalate) -> str:
        cause = child.error or "it keeps ending"
        return (
            f"{self.name}/{child.spec.name} was restarted {decision.restarts} times and is given up: {cause}"
        )


def _escalation(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception that stands for the group: the escalation, or else the first."""
    found = group.subgroup(RestartLimitExceeded)
    return (found or group).exceptions[0]
