"""A pod of our own as a contender.

Knows: its processes, for what they take.
Does not know: what it is asked (see `served`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from xpod.cli.bench.compare.memory import budget, checkpoint_bytes
from xpod.cli.bench.compare.served import ServedSession
from xpod.cli.own_pod import OwnPod, own_pod
from xpod.cli.preflight import find_model


class PodSession(ServedSession):
    def __init__(self, pod: OwnPod, model: Path) -> None:
        self._pod = pod
        super().__init__(pod.state().endpoints)
        counts = pod.counts()
        self.facts |= {"processes": counts, "budget_bytes": budget(checkpoint_bytes(model), counts)}

    def processes(self) -> list[tuple[str, int]]:
        return self._pod.processes()


BARE = {
    "XPOD_CHECKPOINTS": "false",
    "XPOD_JOURNAL": "0",
    "XPOD_HEDGING": "false",
    "XPOD_HEARTBEAT": "5",
}
"""A pod that does nothing against faults, but for a rare heartbeat: its members' load is known from there."""


@dataclass(frozen=True, slots=True)
class Pod:
    """Counts that are None are compose.yaml's; `variables` are settings of its services."""

    model: Path
    counts: Mapping[str, int | None]
    name: str = "pod"
    variables: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        find_model(str(self.model))

    @contextmanager
    def running(self) -> Iterator[PodSession]:
        with own_pod(self.model, self.counts, variables=self.variables) as pod:
            yield PodSession(pod, self.model)
