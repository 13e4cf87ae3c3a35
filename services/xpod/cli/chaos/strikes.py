"""The faults of a storm: who is hit when, with what, and who is back.

Knows: the rule of victims, and a random generator. Does not know: streams, or what the faults did to them.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from xpod.cli.chaos.target import Fault, Signal, Target
from xpod.cli.chaos.victims import victims
from xpod.cli.compose import KINDS

STOP_SECONDS = (0.5, 5.0)
AT_ONCE = (1, 1, 2, 3)
"""So many are hit at the same moment; each number as often as it stands here."""
LOOK_SECONDS = 0.25
NATS_SECONDS = 3.0
"""Routers look at NATS nodes every 2 s: what they say of one that was hit holds after so long."""


@dataclass(slots=True)
class Away:
    """A member that was hit. `until`: when a stopped one is woken; None: it was killed, or is awake. Seconds."""

    kind: str
    fault: Fault
    until: float | None
    ended: float


class Strikes:
    """`tick` it often: it wakes who was stopped long enough, sees who is back, and hits the next."""

    def __init__(
        self,
        target: Target,
        rng: random.Random,
        every: float,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`every`: seconds from moment to moment on average. `tell` hears of all that happens, in words."""
        self._target = target
        self._tell = tell
        self._rng = rng
        self._every = every
        self._members: dict[str, list[str]] = {kind: [] for kind in KINDS}
        for life in target.lives():
            self._members[life.kind].append(life.member)
        self._away: dict[str, Away] = {}
        self._next = 0.0
        self._look = 0.0
        self.counts: Counter[tuple[str, Signal]] = Counter()
        self.most_away = 0

    def tick(self, now: float) -> None:
        """Seconds of any one clock. Raises CliError where the target cannot be hit."""
        self._wake(now)
        if now >= self._look:
            self._see_who_is_back(now)
            self._look = now + LOOK_SECONDS
        if now >= self._next:
            for _ in range(self._rng.choice(AT_ONCE)):
                self._hit(now)
            self._next = now + self._rng.expovariate(1 / self._every)

    def end(self) -> None:
        """Wakes everybody: no more faults."""
        self._wake(float("inf"))

    def _hit(self, now: float) -> None:
        free = victims(self._members, self._away)
        kinds = [kind for kind in KINDS if any(member in free for member in self._members[kind])]
        if not kinds:
            return
        kind = self._rng.choice(kinds)
        member = self._rng.choice([member for member in self._members[kind] if member in free])
        if member not in self._target.members(kind):  # it ended by itself, and is not started again yet
            return
        signal: Signal = self._rng.choice(("KILL", "STOP"))
        fault = self._target.hit(member, signal)
        until = now + self._rng.uniform(*STOP_SECONDS) if signal == "STOP" else None
        self._away[member] = Away(kind, fault, until, now)
        self._tell(f"{member} {signal}" + ("" if until is None else f" for {until - now:.1f} s"))
        self.counts[kind, signal] += 1
        self.most_away = max(self.most_away, len(self._away))

    def _wake(self, now: float) -> None:
        for away in self._away.values():
            if away.until is not None and now >= away.until:
                self._target.wake(away.fault)
                away.ended, away.until = now, None

    def _see_who_is_back(self, now: float) -> None:
        """A member is back when every router that is not away itself sees its new life."""
        asleep = {member for member, away in self._away.items() if away.until is not None}
        waited = [member for member in self._away if member not in asleep]
        if not waited:
            return
        absent = self._target.absent(asleep)
        for member in waited:
            away = self._away[member]
            long_ago = away.kind != "nats" or now - away.ended >= NATS_SECONDS
            if member not in absent and long_ago:
                self._tell(f"{member} is back")
                del self._away[member]


def rage(strikes: Strikes, seconds: float) -> None:
    """Faults for so long; at its end nobody is stopped any more. Raises CliError where the target cannot be hit."""
    end = time.monotonic() + seconds
    try:
        while (now := time.monotonic()) < end:
            strikes.tick(now)
            time.sleep(0.05)
    finally:
        strikes.end()
