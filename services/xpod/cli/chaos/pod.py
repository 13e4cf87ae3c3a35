"""The pod under test: who can be hit, with what, and whether it is whole again.

Knows: the state file, signals, and the routers' view of the pod.
Does not know: streams, or when to hit whom.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from typing import Literal, Protocol

from xpod.cli.client import PodClient
from xpod.cli.errors import CliError
from xpod.cli.own_pod import OwnPod
from xpod.cli.process import ProcessRef, send

Signal = Literal["KILL", "STOP"]
WHOLE_SECONDS = 120.0
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Fault:
    """A signal that was sent to a process."""

    member: str
    process: ProcessRef
    signal: Signal


class Target(Protocol):
    """A pod that faults can be injected into."""

    @property
    def endpoints(self) -> list[str]: ...

    def members(self, kind: str) -> list[str]:
        """Those that can be hit now."""

    def hit(self, member: str, signal: Signal) -> Fault: ...

    def wake(self, fault: Fault) -> None:
        """End of a STOP."""

    def wait_whole(self) -> float:
        """Seconds until every member is there, known to every router, and every expert is held. Raises CliError."""


class LocalPod:
    """Processes of this machine."""

    def __init__(self, pod: OwnPod) -> None:
        self._pod = pod
        self.endpoints = list(pod.state().endpoints)
        self._copies = 1
        """Of the expert that fewest shards hold: the most that was seen is what the pod has when it is whole."""

    def members(self, kind: str) -> list[str]:
        return [member.id for member in self._pod.state().members if member.kind == kind and member.runs]

    def hit(self, member: str, signal: Signal) -> Fault:
        found = self._pod.state().member(member)
        if found is None or found.process is None or not _send(found.process, signal):
            raise CliError(f"{member} does not run")
        return Fault(member, found.process, signal)

    def wake(self, fault: Fault) -> None:
        send(fault.process, signal.SIGCONT)

    def wait_whole(self) -> float:
        began = time.monotonic()
        while (missing := self._missing()) != "":
            if time.monotonic() - began > WHOLE_SECONDS:
                raise CliError(f"not whole after {WHOLE_SECONDS:g} s: {missing}")
            time.sleep(POLL_SECONDS)
        return time.monotonic() - began

    def _missing(self) -> str:
        """Why the pod is not whole; every router has to see the very processes that run."""
        members = self._pod.state().members
        dead = [member.id for member in members if not member.runs]
        if dead:
            return f"{dead[0]} does not run"
        for url in self.endpoints:
            try:
                with PodClient([url]) as client:
                    status = client.get("/xpod/status")
            except CliError as error:
                return error.message
            seen = {each["id"]: (each["state"], each["pid"]) for each in status["members"]}
            for member in members:
                assert member.process is not None
                state, pid = seen.get(member.id, ("unknown", None))
                if state != "up" or (pid is not None and pid != member.process.pid):
                    return f"{member.id} is {state} to {url}"
            if not status["ready"]:
                return f"{url} is not ready"
            layers = status["placement"]["experts"].values()
            copies = min((len(held) for layer in layers for held in layer.values()), default=0)
            self._copies = max(self._copies, copies)
            if copies < self._copies:
                return f"an expert is held {copies} times, not {self._copies} times"
        return ""


def _send(process: ProcessRef, name: Signal) -> bool:
    return send(process, signal.SIGKILL if name == "KILL" else signal.SIGSTOP)
