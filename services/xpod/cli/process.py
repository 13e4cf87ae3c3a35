"""One process of this machine, by pid and birth: a pid that was given to somebody else is not it.

Knows: how to tell whether a process still runs, to signal it, and to find the processes of one launch.
Does not know: what the process is for.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

LAUNCH_VARIABLE = "XPOD_LAUNCH"
"""Every member carries the pod's data directory in this variable of its environment."""
POLL_SECONDS = 0.02
KILL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """A process: its pid, and when it was born in a form that survives changes of the clock."""

    pid: int
    birth: str


def birth_of(pid: int) -> str | None:
    """When `pid` was started; None when there is no such process, or only its corpse."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (OSError, UnicodeDecodeError):
            return None
        return None if fields[0] in {"Z", "X"} else f"ticks:{fields[19]}"
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"seconds:{process.create_time():.2f}"
    except psutil.Error:
        return None


def ref_of(pid: int) -> ProcessRef:
    """A reference to a running process; of one that is gone already, a reference that is not alive."""
    return ProcessRef(pid, birth_of(pid) or "gone")


def is_alive(ref: ProcessRef) -> bool:
    return birth_of(ref.pid) == ref.birth


def is_stopped(ref: ProcessRef) -> bool:
    """Whether it is held by SIGSTOP."""
    try:
        return is_alive(ref) and psutil.Process(ref.pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False


def send(ref: ProcessRef, number: signal.Signals) -> bool:
    """Sends a signal to exactly this process; False when it is gone. The pid is pinned while it is checked."""
    if not hasattr(os, "pidfd_open"):
        return _send_by_pid(ref, number)
    try:
        handle = os.pidfd_open(ref.pid)
    except OSError:
        return False
    try:
        if not is_alive(ref):
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def _send_by_pid(ref: ProcessRef, number: signal.Signals) -> bool:
    if not is_alive(ref):
        return False
    try:
        os.kill(ref.pid, number)
    except ProcessLookupError:
        return False
    return True


def wait_gone(refs: Iterable[ProcessRef], seconds: float) -> list[ProcessRef]:
    """Waits until all are gone; returns those that were still there after `seconds`."""
    deadline = time.monotonic() + seconds
    left = [ref for ref in refs if is_alive(ref)]
    while left and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        left = [ref for ref in left if is_alive(ref)]
    return left


def stop_all(refs: Sequence[ProcessRef], grace: float) -> None:
    """SIGTERM, `grace` seconds, then SIGKILL. A process held by SIGSTOP is woken, so that it can end itself."""
    for ref in refs:
        send(ref, signal.SIGTERM)
        send(ref, signal.SIGCONT)
    for ref in wait_gone(refs, grace):
        send(ref, signal.SIGKILL)
    wait_gone(refs, KILL_SECONDS)


def launched_from(data: Path) -> list[ProcessRef]:
    """Every process that carries this data directory in its environment: what a state file may have missed."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.pid != os.getpid() and process.environ().get(LAUNCH_VARIABLE) == str(data)
        except (psutil.Error, OSError):
            continue
        if mine:
            found.append(ref_of(process.pid))
    return [ref for ref in found if is_alive(ref)]
