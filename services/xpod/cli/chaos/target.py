"""A pod under test: who can be hit, with what, and whether it is whole again.

Knows: the routers' view of the pod, and how to compare it with what is said of its processes.
Does not know: how processes are found and signalled (subclasses do), streams, or when to hit whom.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xpod.cli.client import PodClient
from xpod.cli.errors import CliError

Signal = Literal["KILL", "STOP"]
LEADER, FOLLOWER = "nats-leader", "nats-follower"
"""Of NATS nodes, the one that leads the journal, and the others."""
POD = "pod"
"""The kind, and the name, of all members at once, but for NATS."""
WHOLE_SECONDS = 120.0
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Life:
    """A member as whoever keeps it alive knows it. `name` differs for each start; `started` is a Unix time.

    `pid` is what the member itself calls its process, None where that tells nothing.
    """

    member: str
    kind: str
    runs: bool
    name: str = ""
    pid: int | None = None
    started: float = 0.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process holds: bytes of memory (shared pages in parts, where that is known), open files."""

    life: Life
    memory: int
    files: int


@dataclass(frozen=True, slots=True)
class Fault:
    """A signal that was sent: to these processes, as the target names them."""

    member: str
    signal: Signal
    processes: tuple[Any, ...]


class Target(ABC):
    """A pod that faults can be injected into. `routers` has an endpoint for each router's name."""

    own = False
    """Was it started for this?"""

    def __init__(self, routers: dict[str, str]) -> None:
        self.routers = routers
        self._copies = 1
        """Of the expert that fewest shards hold, when the pod was found whole before any fault."""
        self._hit = False

    @abstractmethod
    def lives(self) -> list[Life]:
        """All members, also those that do not run now."""

    @abstractmethod
    def hit(self, member: str, signal: Signal) -> Fault:
        """Raises CliError where it does not run."""

    @abstractmethod
    def wake(self, fault: Fault) -> None:
        """End of a STOP."""

    @abstractmethod
    def usage(self) -> list[Usage]:
        """Of all processes that can be asked now."""

    def keep_logs(self) -> Path | None:
        """Where the logs are from now on that would go with a pod that was started for this."""
        return None

    @property
    def endpoints(self) -> list[str]:
        return list(self.routers.values())

    def begin(self) -> None:
        """From now on the pod is hit: what it has is what it is to have again."""
        self._hit = True

    def members(self, kind: str) -> list[str]:
        """Those that can be hit now. Where no NATS node has the part that is asked for, all of them."""
        if kind == POD:
            return [POD]
        if kind in {LEADER, FOLLOWER}:
            nodes, leaders = self.members("nats"), self.leaders()
            return [node for node in nodes if (node in leaders) == (kind == LEADER)] or nodes
        return [life.member for life in self.lives() if life.kind == kind and life.runs]

    def leaders(self) -> set[str]:
        """The NATS node that leads the journal, if one does. Raises CliError where no router answers."""
        with PodClient(self.endpoints) as client:
            members = client.get("/xpod/status")["members"]
        return {each["id"] for each in members if each["kind"] == "nats" and each["detail"].get("leads")}

    def counted(self, *names: str, kinds: Collection[str] = ("decode",)) -> dict[tuple[str, str], list[int]]:
        """Counters of members of these kinds, for each of their lives. Raises CliError where no router answers."""
        statuses = self._statuses()
        found = {
            (life.member, life.name): most(life, [told.get(life.member) for told in statuses], names)
            for life in self.lives()
            if life.kind in kinds
        }
        return {key: counts for key, counts in found.items() if counts is not None}

    def _statuses(self) -> list[dict[str, dict[str, Any]]]:
        """The members as each router that answers tells of them, by name. Raises CliError where none does."""
        statuses, silent = [], None
        for url in self.routers.values():
            try:
                with PodClient([url]) as client:
                    members = client.get("/xpod/status")["members"]
            except CliError as error:
                silent = error
            else:
                statuses.append({each["id"]: each for each in members})
        if silent is not None and not statuses:
            raise silent
        return statuses

    def wait_whole(self) -> float:
        """Seconds until every member is there, known to every router, and every expert is held. Raises CliError."""
        began = time.monotonic()
        while missing := self.absent():
            if time.monotonic() - began > WHOLE_SECONDS:
                raise CliError(f"not whole after {WHOLE_SECONDS:g} s: {next(iter(missing.values()))}")
            time.sleep(POLL_SECONDS)
        return time.monotonic() - began

    def absent(self, silent: Collection[str] = ()) -> dict[str, str]:
        """Why the pod is not whole, by member; routers in `silent` are not asked.

        Every router has to see the very processes that run. What is no member's fault stands under POD.
        """
        lives = self.lives()
        reasons = {life.member: f"{life.member} does not run" for life in lives if not life.runs}
        for router, url in self.routers.items():
            if router in silent or router in reasons:
                continue
            try:
                with PodClient([url]) as client:
                    status = client.get("/xpod/status")
            except CliError as error:
                reasons.setdefault(router, error.message)
                continue
            told = {each["id"]: each for each in status["members"]}
            for life in lives:
                if not _seen(life, told.get(life.member)):
                    reasons.setdefault(life.member, f"{life.member} is not up to {url}")
            if problem := self._short_of_experts(status):
                reasons.setdefault(POD, f"{url}: {problem}")
        return reasons

    def _short_of_experts(self, status: dict[str, Any]) -> str:
        if not status["ready"]:
            return "not ready"
        layers = status["placement"]["experts"].values()
        copies = min((len(held) for layer in layers for held in layer.values()), default=0)
        if not self._hit:  # between two placements experts are held more often than they are to be
            self._copies = max(self._copies, copies)
        return "" if copies >= self._copies else f"an expert is held {copies} times, not {self._copies} times"


def most(life: Life, tellings: Sequence[dict[str, Any] | None], names: Sequence[str]) -> list[int] | None:
    """A process' counters, of what routers tell of it the most: a new one has not heard of all. None: no word of it."""
    details = [told["detail"] for told in tellings if told is not None and _same(life, told)]
    return [max(int(detail.get(name, 0)) for detail in details) for name in names] if details else None


def _seen(life: Life, told: dict[str, Any] | None) -> bool:
    """Does a router speak of this very process, and is it up?"""
    return told is not None and told["state"] == "up" and _same(life, told)


def _same(life: Life, told: dict[str, Any]) -> bool:
    if told["pid"] is None:  # a NATS node: routers look at its address
        return True
    same = life.pid is None or told["pid"] == life.pid
    return bool(same and told["since"] >= life.started)
