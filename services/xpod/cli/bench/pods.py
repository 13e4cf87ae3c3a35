"""The pods that are measured under different ways of reuse: started anew for each, or one that runs already.

Knows: how to start one, and what is to be known of it.
Does not know: what it is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from xpod.cli.own_pod import own_pod
from xpod.cli.reuse import Reuse

WORKERS = 4
"""Taken for granted of a pod that runs already."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A pod that can be asked. `workers`: of the kind that has more; without `pids`, its processes are not known."""

    urls: tuple[str, ...]
    workers: int = WORKERS
    pids: tuple[int, ...] = ()
    processes: Mapping[str, int] | None = None


class Pods(Protocol):
    def running(self, reuse: Reuse) -> AbstractContextManager[Serving]:
        """A pod that works in this way. Raises CliError where it does not start."""

    def as_json(self) -> dict[str, Any]:
        """What all of them have in common."""


@dataclass(frozen=True, slots=True)
class OwnPods:
    """Counts that are None are compose.yaml's."""

    model: Path
    counts: Mapping[str, int | None]

    @contextmanager
    def running(self, reuse: Reuse) -> Iterator[Serving]:
        with own_pod(self.model, self.counts, variables=reuse.variables()) as pod:
            processes = pod.counts()
            yield Serving(
                tuple(pod.state().endpoints),
                max(processes["prefill"], processes["decode"]),
                tuple(pid for _, pid in pod.processes()),
                processes,
            )

    def as_json(self) -> dict[str, Any]:
        return {"model": {"name": self.model.name}, "counts": dict(self.counts)}


@dataclass(frozen=True, slots=True)
class GivenPod:
    """One that runs already, and goes on. In which way it works is for whoever started it to know."""

    urls: tuple[str, ...]

    @contextmanager
    def running(self, reuse: Reuse) -> Iterator[Serving]:
        yield Serving(self.urls)

    def as_json(self) -> dict[str, Any]:
        return {"urls": list(self.urls)}
