"""Who is in the pod: a table fed with hellos, heartbeats, departures, answers to probes, and the time.

Times are seconds of any one monotonic clock, handed in by the caller. A member is identified by name *and*
incarnation, so a good-bye of a former process never removes its successor.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

CONTROL = ".control"
"""A member's connections are named after it, and after it with this."""
CONNECTIONS = 2
LATE_INTERVALS = 1.1
WAITED_SECONDS = 0.25
LATE_TIMES = 6.0
LATENESS_SHARE = 1 / 64
MOST_LATE = 1.0
ANSWER_SECONDS = 0.2
MOST_UNANSWERED = 2
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
    """The table. Most methods return the changes that they made.

    A member is expected to be heard every `interval`. One that is late is asked (`doubtful`), because a busy machine is
    late too: how late heartbeats come here, on average, is added to all patience. One that somebody waits for in vain
    (`waited_for`) is asked before it is late. Two unanswered questions are a verdict, and a heartbeat undoes it. Where
    nobody asks, silence alone is judged: by `suspect_after` and `down_after` seconds, or as many intervals where those
    are longer than a second.
    """

    interval: float = 1.0
    suspect_after: float = 2.5
    down_after: float = 6.0
    forget_after: float = 60.0
    members: dict[str, Member] = field(default_factory=dict)
    lateness: float = 0.0
    _ended: dict[str, set[str]] = field(default_factory=dict)
    _unanswered: dict[str, int] = field(default_factory=dict)

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
        if known.alive:
            late = max(0.0, now - known.heard - self.interval)
            self.lateness += (min(late, MOST_LATE) - self.lateness) * LATENESS_SHARE
        self._forget_doubts(name)
        since = known.since if known.state == state else now
        return self._set(replace(known, state=state, load=load, heard=now, since=since), "heartbeat")

    def down(self, name: str, incarnation: str, reason: str, now: float) -> list[Change]:
        """That incarnation is gone."""
        known = self.members.get(name)
        if known is None or known.incarnation != incarnation or not known.alive:
            return []
        return self._set(replace(known, state="down", since=now), reason)

    def departed(self, connection: str) -> Member | None:
        """A connection ended from its own side. A member that lost both of its own has ended too, or it has others.

        Such a member is returned: it is to be asked, since a server that hung tells late of connections that were given
        up long ago.
        """
        name = connection.removesuffix(CONTROL)
        known = self.members.get(name)
        if known is None or not known.alive:
            return None
        ended = self._ended.setdefault(name, set())
        ended.add(connection)
        if len(ended) < CONNECTIONS:
            return None
        del self._ended[name]
        return known

    @property
    def patience(self) -> float:
        """Seconds that an answer to a question may take."""
        return ANSWER_SECONDS + LATE_TIMES * self.lateness

    def doubtful(self, now: float) -> list[Member]:
        """Those that should have been heard of by now: ask them, and report `answered` or `unanswered`.

        Members that are starting are left alone: they import and load, which may keep their event loop.
        """
        return [member for member in self._judged() if now - member.heard > self._late]

    def waited_for(self, name: str, now: float) -> Member | None:
        """The member, if it is worth asking because somebody waits for it: it was not heard a moment ago."""
        known = self.members.get(name)
        recent = WAITED_SECONDS + LATE_TIMES * self.lateness
        return known if known and _is_judged(known) and now - known.heard > recent else None

    def unsure(self, name: str) -> bool:
        """Has it left a question unanswered, and not been heard since?"""
        return name in self._unanswered

    def next_look(self, now: float) -> float:
        """Seconds until somebody may be doubtful, at most an interval; 0 while somebody is."""
        heard = min((member.heard for member in self._judged()), default=now)
        return min(max(0.0, heard + self._late - now), self.interval)

    @property
    def _late(self) -> float:
        return LATE_INTERVALS * self.interval + LATE_TIMES * self.lateness

    def _judged(self) -> list[Member]:
        return [member for member in self.members.values() if _is_judged(member)]

    def answered(self, name: str, incarnation: str, now: float) -> list[Change]:
        """It lives; it only had no time for a heartbeat."""
        known = self.members.get(name)
        if known is None or known.incarnation != incarnation or not known.alive:
            return []
        self._forget_doubts(name)
        if known.state == "suspect":
            return self._set(replace(known, state="up", heard=now, since=now), "answered")
        return self._set(replace(known, heard=now), "answered")

    def unanswered(self, name: str, incarnation: str, now: float) -> list[Change]:
        """It was asked, and did not answer in `patience`."""
        known = self.members.get(name)
        if known is None or known.incarnation != incarnation or not known.alive:
            return []
        times = self._unanswered[name] = self._unanswered.get(name, 0) + 1
        if times >= MOST_UNANSWERED:
            return self._fall(known, f"silent for {now - known.heard:.1f} s and does not answer", now)
        if known.state != "up":
            return []
        return self._set(replace(known, state="suspect", since=now), "does not answer")

    def reconnected(self, now: float) -> None:
        """Nobody could be heard for a while, which says nothing about anybody."""
        for member in list(self.members.values()):
            if member.alive:
                self.members[member.name] = replace(member, heard=now)
                self._forget_doubts(member.name)

    def tick(self, now: float) -> list[Change]:
        """Judge the silent ones; forget those that have been down for long."""
        changes: list[Change] = []
        scale = max(1.0, self.interval)
        for known in list(self.members.values()):
            silence = now - known.heard
            if known.state == "down":
                if now - known.since > self.forget_after:
                    del self.members[known.name]
            elif silence > self.down_after * scale:
                changes += self._set(replace(known, state="down", since=now), f"silent for {silence:.1f} s")
            elif silence > self.suspect_after * scale and known.state == "up":
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

    def _fall(self, known: Member, reason: str, now: float) -> list[Change]:
        self._forget_doubts(known.name)
        return self._set(replace(known, state="down", since=now), reason)

    def _forget_doubts(self, name: str) -> None:
        self._ended.pop(name, None)
        self._unanswered.pop(name, None)

    def _set(self, member: Member, reason: str) -> list[Change]:
        known = self.members.get(member.name)
        self.members[member.name] = member
        reborn = known is not None and known.incarnation != member.incarnation
        if known is not None and known.state == member.state and not reborn:
            return []
        return [Change(member, known.state if known else None, reason, reborn)]


def _is_judged(member: Member) -> bool:
    return member.state in ("up", "suspect", "draining")
