"""How much of the machine somebody else used while a contender ran.

Knows: the processors' time, and what given processes had of it.
Does not know: who the others are. Interrupts and other machines on the same hardware count as others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

import psutil

IDLE = ("idle", "iowait", "guest", "guest_nice")
"""Guests' time is in the user's already."""


class Disturbance:
    """Begins when it is made; `cores` at the end."""

    def __init__(self, pids: Iterable[int]) -> None:
        """`pids`: all that is measured; this process is added. Without any, nothing is known."""
        self._pids = list(pids)
        self._began = self._reading()

    def cores(self) -> float | None:
        """Processors that were busy with others on average; None where it cannot be known."""
        now = self._reading()
        if self._began is None or now is None:
            return None
        seconds, busy, ours = (after - before for before, after in zip(self._began, now, strict=True))
        return max(0.0, (busy - ours) / seconds) if seconds > 0 else None

    def _reading(self) -> tuple[float, float, float] | None:
        """Seconds: of the clock, of all busy processors, of our processes."""
        ours = _spent([*self._pids, os.getpid()]) if self._pids else None
        return None if ours is None else (time.monotonic(), _busy(), ours)


def _busy() -> float:
    times = psutil.cpu_times()._asdict()
    return float(sum(spent for name, spent in times.items() if name not in IDLE))


def _spent(pids: Iterable[int]) -> float | None:
    """None where one of them is gone."""
    try:
        times = [psutil.Process(pid).cpu_times() for pid in pids]
    except psutil.Error:
        return None
    return float(sum(each.user + each.system for each in times))
