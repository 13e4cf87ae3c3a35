"""The launcher as a process of its own: `python -m xpod.cli.daemon`, started by `Handle` (see `handle`).

Knows: the plan on its first line of stdin, and how to tell on stdout what happens, one JSON object a line.
Does not know: terminals.

It inherits the lock of the data directory, and so holds it while it lives. Held by a terminal (`attached`), it
drains when its stdin ends: a killed `xpod up` takes its pod along. Detached, it goes on until SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from xpod.cli.errors import CliError
from xpod.cli.launcher import Launcher
from xpod.cli.plan import LaunchPlan
from xpod.cli.readiness import ReadyProbe

if TYPE_CHECKING:
    from xpod.cli.part_readiness import HeartbeatProbe

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Order:
    """What the daemon is told: the plan, and whether it lives only as long as whoever started it."""

    plan: LaunchPlan
    attached: bool


ORDER = TypeAdapter(Order)


def report(event: str, text: str) -> None:
    """One event: into the log, and to whoever started this process (who may be gone, or asleep after Ctrl-Z)."""
    note(f"{event} {text}".rstrip())
    try:
        os.write(sys.stdout.fileno(), json.dumps({"event": event, "text": text}).encode() + b"\n")
    except (BrokenPipeError, BlockingIOError):
        return


def note(text: str) -> None:
    """A line in the launcher's own log."""
    print(time.strftime("%Y-%m-%dT%H:%M:%S"), text, file=sys.stderr, flush=True)


async def serve(order: Order) -> None:
    """Runs the pod until a signal, or until the lifeline ends."""
    plan = order.plan
    members = [spec for spec in plan.members if spec.kind != "nats"]
    probe: ReadyProbe | HeartbeatProbe
    if plan.part:
        from xpod.cli.part_readiness import (
            HeartbeatProbe,  # which needs the bus, and whoever imports us need not
        )

        probe = HeartbeatProbe(plan.pod, plan.nats_urls, members)
    else:
        probe = ReadyProbe(plan.endpoints, [spec.id for spec in members])
    launcher = Launcher(plan, probe, report)
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, _stop, launcher, f"got {number.name}")
    if order.attached:
        _watch_lifeline(loop, launcher)
    try:
        await launcher.run()
    finally:
        await probe.close()


def _stop(launcher: Launcher, reason: str) -> None:
    note(f"stopping: {reason}")
    launcher.stop()


def _watch_lifeline(loop: asyncio.AbstractEventLoop, launcher: Launcher) -> None:
    lifeline = sys.stdin.fileno()

    def readable() -> None:
        if not os.read(lifeline, 4096):
            loop.remove_reader(lifeline)
            _stop(launcher, "whoever started it is gone")

    loop.add_reader(lifeline, readable)


def main() -> int:
    os.set_blocking(sys.stdout.fileno(), False)
    order = ORDER.validate_json(sys.stdin.buffer.readline())
    try:
        asyncio.run(serve(order))
    except CliError as error:
        report("failed", error.message)
        return error.exit_code
    report("stopped", "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
