"""One member as a child process: started, watched, started again when it dies, and stopped.

Knows: how to run a command into a log file, and to ask `Restarts` what a death means.
Does not know: the other members, or whether the pod can serve.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path

from xpod.cli.giving_way import SLOW_KINDS, give_way
from xpod.cli.logs import last_line
from xpod.cli.plan import MemberSpec, environment
from xpod.cli.process import ref_of, send
from xpod.cli.restarts import GiveUp, Restarts, describe
from xpod.cli.state import MemberState

COULD_NOT_START = 127

OnChange = Callable[["Child", str], None]
"""Is told, in words for people, of everything that happens to a member."""


class Child:
    """Run `run` as a task; `stop` ends it. `state` is what the state file says about the member."""

    def __init__(
        self, spec: MemberSpec, data: Path, log: Path, on_change: OnChange, restarts: Restarts
    ) -> None:
        self.spec = spec
        self.log = log
        self.state = MemberState(spec.id, spec.kind, since=time.time())
        self.given_up = False
        self._data = data
        self._on_change = on_change
        self._restarts = restarts
        self._grace = 0.0
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keeps the member alive until `stop`, or until there is no more sense in it."""
        while not self._stopping.is_set():
            born = time.monotonic()
            status = await self._live()
            if self._stopping.is_set():
                self._mark("down", describe(status))
                return
            now = time.monotonic()
            verdict = self._restarts.died(status, now - born, now)
            if isinstance(verdict, GiveUp):
                self._give_up(verdict)
                return
            self.state.restarts += 1
            self._mark("down", f"{describe(status)}, started again in {verdict.after:g} s")
            await self._stop_asked(verdict.after)

    def stop(self, grace: float) -> None:
        """Lets `run` end: SIGTERM, at most `grace` seconds, then SIGKILL. A second call changes nothing."""
        if not self._stopping.is_set():
            self._grace = grace
            self._stopping.set()

    async def _live(self) -> int:
        """One life of the process, from its start to its exit status."""
        try:
            process = await self._start()
        except OSError as error:
            with self.log.open("a") as output:
                output.write(f"{self.spec.argv[0]}: {error.strerror}\n")
            self.state.last_exit = "could not be started"
            return COULD_NOT_START
        self.state.process = ref_of(process.pid)
        self._mark("up")
        again = self.state.restarts and self.spec.kind in SLOW_KINDS
        giving = asyncio.create_task(give_way(process.pid)) if again else None
        exited = asyncio.create_task(process.wait())
        asked = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({exited, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        status = await (exited if exited.done() else self._end(process))
        if giving is not None:
            giving.cancel()
        self.state.process = None
        self.state.last_exit = describe(status)
        return status

    async def _end(self, process: asyncio.subprocess.Process) -> int:
        """SIGTERM, patience, SIGKILL. A member held by SIGSTOP is woken, so that it can end itself."""
        self._mark("draining")
        ref = self.state.process
        if ref is not None:
            send(ref, signal.SIGTERM)
            send(ref, signal.SIGCONT)
        try:
            async with asyncio.timeout(self._grace):
                return await process.wait()
        except TimeoutError:
            if ref is not None:
                send(ref, signal.SIGKILL)
            return await process.wait()

    async def _start(self) -> asyncio.subprocess.Process:
        with self.log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *self.spec.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(self.spec, str(self._data)),
                start_new_session=True,
            )

    def _give_up(self, verdict: GiveUp) -> None:
        self.given_up = True
        self._mark("down", f"{verdict.reason} ({self.state.last_exit}): {last_line(self.log)}")

    async def _stop_asked(self, seconds: float) -> None:
        """Waits for `stop`, but not longer than `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _mark(self, state: str, note: str = "") -> None:
        self.state.state = state
        self.state.since = time.time()
        self.state.note = note
        self._on_change(self, note or state)
