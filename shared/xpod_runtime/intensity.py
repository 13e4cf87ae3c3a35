"""How often a child may fail before its tree gives up.

Knows: restart policies, times as numbers. Pure: no clock, no tasks.
Does not know: what is restarted (see `supervision`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

RestartKind = Literal["permanent", "transient", "temporary"]
"""permanent: always restarted; transient: after a failure only; temporary: never."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """At most `max_restarts` within `within` seconds; the k-th of them waits `first_delay` * 2^(k-1), bounded."""

    max_restarts: int = 5
    within: float = 10.0
    first_delay: float = 0.05
    max_delay: float = 2.0


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the child again after `delay` seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave the child ended."""


@dataclass(frozen=True, slots=True)
class Escalate:
    """The tree gives up after `restarts` restarts within its window."""

    restarts: int


Decision = Restart | Leave | Escalate


class Intensity:
    """Ends of children in, decisions out. Times must not run backwards."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._restarts: deque[float] = deque()

    def ended(self, kind: RestartKind, *, failed: bool, now: float) -> Decision:
        """What to do about a child of this kind that ended at `now` (seconds)."""
        if kind == "temporary" or (kind == "transient" and not failed):
            return Leave()
        while self._restarts and now - self._restarts[0] >= self._policy.within:
            self._restarts.popleft()
        if len(self._restarts) >= self._policy.max_restarts:
            return Escalate(len(self._restarts))
        self._restarts.append(now)
        delay = self._policy.first_delay * 2.0 ** (len(self._restarts) - 1)
        return Restart(min(delay, self._policy.max_delay))
