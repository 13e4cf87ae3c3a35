"""Who is in the pod: a table fed with hellos, heartbeats, departures and the time.

Times are seconds of any one monotonic clock, handed in by the caller. A member is identified by name *and*
incarnation, so a good-bye of a former process never removes its successor.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

Value = str | int | float | bool
State = Literal["starting", "up", "suspect", "down", "draining"]


@dataclass(frozen=True, slots=True)
class Member:
    """What is known of one member."""

    name: str
    kind: str
    incarnation: str
    pid: int
    host: str
    fingerprint: str
    state: State
    since: float
    heard: float
    detail: dict[str, Value]
    load: dict[str, Value] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """May be given new work."""
        return self.state == "up"

    @property
    def alive(self) -> bool:
        """Has not been declared down."""
        return self.state != "down"


@dataclass(frozen=True, slots=True)
class Change:
    """A member whose state is new, and why. `reborn`: it is another process than the one we knew by that name."""

    member: Member
    was: State | None
    reason: str
    reborn: bool = False


@dataclass
class Membership:
    """The table. Every method returns the changes that it made."""

    suspect_after: float = 2.5
    down_after: float = 6.0
    forget_after: float = 60.0
    members: dict[str, Member] = field(default_factory=dict)

    def hello(self, member: Member) -> list[Change]:
        """A member introduced itself (again)."""
        known = self.members.get(member.name)
        if known is not None and known.incarnation == member.incarnation:
            since = known.since if known.state == member.state else member.since
            return self._set(replace(member, load=known.load, since=since), "hello")
        return self._set(member, "hello")

    def heartbeat(
        self, name: str, incarnation: str, state: State, load: dict[str, Value], now: float
    ) -> list[Change] | None:
        """A sign of life; None means that this incarnation is unknown and should be asked for its hello."""
        known = self.members.get(name)
        if known is None or known.incarnation != incarnation:
            return None
        since = known.since if known.state == state else now
        return self._set(replace(known, state=state, load=load, heard=now, since=since), "heartbeat")

    def down(self, name: str, incarnation: str, reason: str, now: float) -> list[Change]:
        """That incarnation is gone."""
        known = self.members.get(name)
        if known is None or known.incarnation != incarnation or not known.alive:
            return []
        return self._set(replace(known, state="down", since=now), reason)

    def tick(self, now: float) -> list[Change]:
        """Judge the silent ones; forget those that have been down for long."""
        changes: list[Change] = []
        for known in list(self.members.values()):
            silence = now - known.heard
            if known.state == "down":
                if now - known.since > self.forget_after:
                    del self.members[known.name]
            elif silence > self.down_after:
                changes += self._set(replace(known, state="down", since=now), f"silent for {silence:.1f} s")
            elif silence > self.suspect_after and known.state == "up":
                changes += self._set(
                    replace(known, state="suspect", since=now), f"silent for {silence:.1f} s"
                )
        return changes

    def of_kind(self, kind: str) -> list[Member]:
        """All known members of a kind, by name."""
        return sorted((m for m in self.members.values() if m.kind == kind), key=lambda m: m.name)

    def usable(self, kind: str) -> list[Member]:
        """Members of a kind that may be given new work, by name."""
        return [member for member in self.of_kind(kind) if member.usable]

    def _set(self, member: Member, reason: str) -> list[Change]:
        known = self.members.get(member.name)
        self.members[member.name] = member
        reborn = known is not None and known.incarnation != member.incarnation
        if known is not None and known.state == member.state and not reborn:
            return []
        return [Change(member, known.state if known else None, reason, reborn)]
