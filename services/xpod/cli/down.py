"""`xpod down`: stops a pod, and whatever it may have left.

Knows: the state file, and the mark that every member carries in its environment.
Does not know: in which order a pod drains: its launcher does that, as long as it lives.
"""

from __future__ import annotations

import signal
from pathlib import Path

from xpod.cli.errors import CliError
from xpod.cli.options import DEFAULT_DATA, DataOption
from xpod.cli.process import ProcessRef, launched_from, send, stop_all, wait_gone
from xpod.cli.shared_memory import remove, shared_directory
from xpod.cli.state import PodState, forget_state, read_state

LAUNCHER_SECONDS = 60.0
MEMBER_SECONDS = 5.0


def down(data: DataOption = DEFAULT_DATA) -> int:
    """Stop the pod; leave no process behind."""
    stopped = stop_pod(data.expanduser().resolve())
    print(f"stopped {stopped} processes" if stopped else f"no pod runs in {data}")
    return 0


def stop_pod(data: Path, grace: float = MEMBER_SECONDS) -> int:
    """Stops everything that belongs to this data directory; returns how many processes that were."""
    state = read_state(data)
    before = _processes(data, state)
    if state is not None and send(state.launcher, signal.SIGTERM):
        send(state.launcher, signal.SIGCONT)
        for ref in wait_gone([state.launcher], LAUNCHER_SECONDS):
            send(ref, signal.SIGKILL)
    left = _processes(data, state)
    stop_all(left, grace)
    stubborn = wait_gone(left, 0)
    if stubborn:
        raise CliError(f"could not be stopped: process {', '.join(str(ref.pid) for ref in stubborn)}")
    if state is not None:
        remove(shared_directory(state.pod))
    forget_state(data)
    return len(before)


def _processes(data: Path, state: PodState | None) -> list[ProcessRef]:
    """What the state file names, and what it may have missed when its launcher was killed."""
    named = [member.process for member in state.living() if member.process] if state else []
    return list({ref.pid: ref for ref in [*named, *launched_from(data)]}.values())
