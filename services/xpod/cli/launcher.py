"""A whole local pod: its members started, kept alive, reported, and stopped in an order that drains them.

Knows: a LaunchPlan, its children, the state file, and a probe that says whether the pod can serve.
Does not know: terminals, options, or what a member does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from xpod.cli.child import Child
from xpod.cli.errors import CliError
from xpod.cli.logs import MOST_BYTES, keep_small, last_line, rotate
from xpod.cli.plan import LaunchPlan
from xpod.cli.process import ref_of
from xpod.cli.restarts import Restarts
from xpod.cli.shared_memory import provide, remove
from xpod.cli.state import PodState, forget_state, logs_dir, write_state

DRAIN_ORDER = (("supervisor", "router"), ("prefill", "decode"), ("expert", "mempool"), ("nats",))
PROBE_SECONDS = 0.1
LOGS_SECONDS = 30.0
"""From one look at how long the logs are to the next."""

Probe = Callable[[], Awaitable[str]]
"""Says why the pod is not ready; an empty text when it is."""
Report = Callable[[str, str], None]
"""Takes (event, text): member, ready, failed, stopping."""


@dataclass(frozen=True, slots=True)
class Graces:
    """Seconds that members get to end by themselves, by kind."""

    router: float = 8.0
    other: float = 4.0

    def of(self, kind: str) -> float:
        return self.router if kind == "router" else self.other


class Launcher:
    """One pod. `run` returns when the pod has been stopped; it raises CliError when it did not become ready."""

    def __init__(
        self,
        plan: LaunchPlan,
        probe: Probe,
        report: Report,
        *,
        graces: Graces | None = None,
        restarts: Callable[[], Restarts] = Restarts,
        log_bytes: int = MOST_BYTES,
    ) -> None:
        """A log of more than `log_bytes` begins anew; what it said before is kept beside it."""
        self._plan = plan
        self._probe = probe
        self._report = report
        self._graces = graces or Graces()
        self._data = Path(plan.data)
        self._log_bytes = log_bytes
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self.children = [
            Child(spec, self._data, logs_dir(self._data) / f"{spec.id}.log", self._on_change, restarts())
            for spec in plan.members
        ]
        self.state = PodState(
            pod=plan.pod,
            model=plan.model,
            data=plan.data,
            launcher=ref_of(os.getpid()),
            endpoints=list(plan.endpoints),
            nats_urls=list(plan.nats_urls),
            members=[child.state for child in self.children],
        )

    def stop(self) -> None:
        """Asks the pod to drain; a second call changes nothing."""
        self._stop.set()
        self._changed.set()

    async def run(self) -> None:
        rotate(logs_dir(self._data))
        self._write()
        self._share_memory()
        tasks = [asyncio.create_task(child.run(), name=child.spec.id) for child in self.children]
        for task in tasks:
            task.add_done_callback(self._stop_on_failure)
        looking = asyncio.create_task(self._keep_logs_small())
        try:
            await self._become_ready()
            await self._stop.wait()
        finally:
            looking.cancel()
            await self._drain(dict(zip(self.children, tasks, strict=True)))
            if self._plan.frames:
                remove(Path(self._plan.frames))
            forget_state(self._data)
        await asyncio.gather(*tasks)

    async def _keep_logs_small(self) -> None:
        while True:
            for child in self.children:
                try:
                    if await asyncio.to_thread(keep_small, child.log, self._log_bytes):
                        self._report("member", f"{child.spec.id} has a long log, which begins anew")
                except OSError as error:
                    self._report("member", f"{child.log} cannot be cut: {error.strerror}")
            await asyncio.sleep(LOGS_SECONDS)

    def _share_memory(self) -> None:
        """Without it members log so, and use the bus alone."""
        try:
            if self._plan.frames:
                provide(Path(self._plan.frames))
        except OSError as error:
            self._report("member", f"memory cannot be shared: {error}")

    async def _become_ready(self) -> None:
        """Returns once the pod can serve, or was told to stop."""
        reason = "nothing answered"
        try:
            async with asyncio.timeout(self._plan.ready_seconds):
                while not self._stop.is_set():
                    self._changed.clear()
                    self._raise_if_hopeless()
                    reason = self._not_started() or await self._probe()
                    if not reason:
                        self._enter("ready")
                        return
                    await self._wait_for_change(PROBE_SECONDS)
        except TimeoutError:
            raise CliError(f"not ready after {self._plan.ready_seconds:g} s: {self._why(reason)}") from None

    def _not_started(self) -> str:
        waiting = [child.spec.id for child in self.children if child.state.state == "starting"]
        return f"not started yet: {', '.join(waiting)}" if waiting else ""

    def _raise_if_hopeless(self) -> None:
        for child in self.children:
            if child.given_up:
                raise CliError(f"{child.spec.id}: {child.state.note}")

    def _why(self, reason: str) -> str:
        """The member that kept dying is a better reason than the pod's own."""
        dying = [child for child in self.children if child.state.restarts]
        return f"{dying[0].spec.id}: {last_line(dying[0].log)}" if dying else reason

    async def _wait_for_change(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _drain(self, tasks: dict[Child, asyncio.Task[None]]) -> None:
        """Kind after kind; whatever fails on the way, every member is asked and waited for."""
        self._enter("stopping")
        for kinds in DRAIN_ORDER:
            group = [child for child in self.children if child.spec.kind in kinds]
            for child in group:
                child.stop(self._graces.of(child.spec.kind))
            await asyncio.gather(*(tasks[child] for child in group), return_exceptions=True)

    def _enter(self, phase: str) -> None:
        self.state.phase = phase
        self._write()
        self._report(phase, "")

    def _on_change(self, child: Child, text: str) -> None:
        self._write()
        self._changed.set()
        self._report("member", f"{child.spec.id} {text}")

    def _stop_on_failure(self, task: asyncio.Task[None]) -> None:
        """A child whose own care failed is a bug: the pod ends, and `run` raises it."""
        if not task.cancelled() and task.exception() is not None:
            self.stop()

    def _write(self) -> None:
        """Keeps the state file; a full disk must not end a pod that serves."""
        try:
            write_state(self.state)
        except OSError as error:
            self._report("member", f"the state file cannot be written: {error.strerror}")
