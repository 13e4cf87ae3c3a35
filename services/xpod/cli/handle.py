"""A launcher process, seen from the command that started it.

Knows: how to start `xpod.cli.daemon`, read its events, and stop it.
Does not know: what a pod is made of.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xpod.cli.daemon import ORDER, Order
from xpod.cli.errors import CliError
from xpod.cli.logs import last_line
from xpod.cli.plan import LaunchPlan

STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Event:
    """What a launcher tells: `name` is member, ready, stopping, stopped, failed, or tick (nothing happened)."""

    name: str
    text: str


class Handle:
    """One launcher process. As a context manager it stops the pod on the way out."""

    def __init__(self, plan: LaunchPlan, *, attached: bool, lock: int) -> None:
        self._log = Path(plan.data) / "launcher.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "xpod.cli.daemon"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
                pass_fds=(lock,),
            )
        self._buffer = b""
        self._send(Order(plan, attached))

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def events(self, tick: float | None = None) -> Iterator[Event]:
        """Events until the process ends; with `tick`, a tick after so many seconds of silence."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if found:
                self._buffer = rest
                record = json.loads(line)
                yield Event(record["event"], record["text"])
            elif not select.select([descriptor], [], [], tick)[0]:
                yield Event("tick", "")
            else:
                more = os.read(descriptor, 65536)
                if not more:
                    return
                self._buffer += more

    def wait_ready(self) -> Iterator[Event]:
        """Events until the pod is ready; raises CliError when it does not become so."""
        for event in self.events():
            if event.name == "failed":
                raise CliError(event.text)
            yield event
            if event.name == "ready":
                return
        raise CliError(f"the launcher died: {last_line(self._log)}")

    def release(self) -> None:
        """Leaves the (detached) launcher to itself."""
        self._close_pipes()
        self._process.returncode = 0  # it goes on: there is nothing to wait for

    def stop(self) -> None:
        """Stops the pod and waits until the launcher is gone."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                raise CliError(f"not stopped after {STOP_SECONDS:g} s; xpod down ends what is left") from None
        self._close_pipes()

    def kill(self) -> None:
        """Ends the launcher at once; its members go on."""
        self._process.kill()
        self._process.wait()

    def _send(self, order: Order) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(ORDER.dump_json(order) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise CliError(f"the launcher died: {last_line(self._log)}") from None

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
