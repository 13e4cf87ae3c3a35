"""What a user sees while a pod starts and runs, and how a user ends it.

Knows: a launcher's events, the terminal, and the signals that mean "enough".
Does not know: options, or how a launcher does its work.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from xpod.cli.errors import Terminated
from xpod.cli.handle import Handle
from xpod.cli.state import read_state

REFRESH_SECONDS = 0.5


def wait_ready(handle: Handle) -> None:
    """Tells on stderr what happens until the pod is ready."""
    began = time.monotonic()
    print("starting a pod", file=sys.stderr, flush=True)
    for event in handle.wait_ready():
        if event.name == "member" and "started again" in event.text:
            print(event.text, file=sys.stderr, flush=True)
    print(f"ready after {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)


def watch(handle: Handle, data: Path) -> str:
    """Shows the members until the launcher ends, and returns its last word.

    A terminal gets a table, anything else one line for each event.
    """
    if sys.stdout.isatty():
        return _watch_table(handle, data)
    last = ""
    for event in handle.events():
        last = event.name
        if event.text:
            print(event.text, flush=True)
    return last


def _watch_table(handle: Handle, data: Path) -> str:
    from rich.live import Live

    from xpod.cli.view import launched_table

    last = ""
    with Live(auto_refresh=False) as live:
        for event in handle.events(REFRESH_SECONDS):
            last = event.name
            state = read_state(data)
            if state is not None:
                live.update(launched_table(state, time.time()), refresh=True)
    return last


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end a command as Ctrl-C does, so that the pod is drained."""
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Terminated
