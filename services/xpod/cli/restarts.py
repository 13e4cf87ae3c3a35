"""Whether a dead member is started again, and when.

Knows: exit statuses and times that it is told. Pure: no clock, no process.
Does not know: who died.
"""

from __future__ import annotations

import signal
from collections import deque
from dataclasses import dataclass, field

BAD_CONFIGURATION = 2
_FROM_OUTSIDE = {0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}


@dataclass(frozen=True, slots=True)
class Again:
    """Start it again after so many seconds."""

    after: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Leave it dead; `reason` is for people."""

    reason: str


@dataclass(slots=True)
class Restarts:
    """The history of one member. Seconds throughout.

    The wait doubles with each death, and starts anew after a life of `stable` seconds. A member that fails by
    itself more than `intensity` times in `window` is given up; deaths from outside (a kill, a clean exit) never
    count for that, so that a fault drill may go on for ever.
    """

    first: float = 0.1
    longest: float = 5.0
    stable: float = 10.0
    intensity: int = 5
    window: float = 60.0
    _quick: int = 0
    _failures: deque[float] = field(default_factory=deque)

    def died(self, status: int, lived: float, now: float) -> Again | GiveUp:
        """What to do about an exit with `status` (minus the signal's number) after `lived` seconds, at `now`."""
        if status == BAD_CONFIGURATION:
            return GiveUp("its configuration is bad")
        self._quick = 1 if lived >= self.stable else self._quick + 1
        if status not in _FROM_OUTSIDE and self._too_many(now):
            return GiveUp(f"it failed {len(self._failures)} times in {self.window:g} s")
        return Again(min(self.longest, self.first * 2 ** min(self._quick - 1, 30)))

    def _too_many(self, now: float) -> bool:
        self._failures.append(now)
        while self._failures[0] < now - self.window:
            self._failures.popleft()
        return len(self._failures) > self.intensity


def describe(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
