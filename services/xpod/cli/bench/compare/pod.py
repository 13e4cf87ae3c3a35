"""A pod of our own as a contender: started as `xpod up` does, with nothing in it, and stopped.

Knows: its processes, for what they take.
Does not know: what it is asked (see `served`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from xpod.cli.bench.compare.memory import budget, checkpoint_bytes
from xpod.cli.bench.compare.served import ServedSession
from xpod.cli.errors import CliError
from xpod.cli.preflight import find_model
from xpod.cli.starting import PodRequest, started
from xpod.cli.state import PodState, read_state
from xpod.cli.terminal import interruptible, wait_ready

LAUNCHER = "launcher"


class PodSession(ServedSession):
    def __init__(self, data: Path, model: Path) -> None:
        self._data = data
        state = self._state()
        super().__init__(state.endpoints)
        counts: dict[str, int] = {LAUNCHER: 1}
        for member in state.members:
            counts[member.kind] = counts.get(member.kind, 0) + 1
        self.facts |= {"processes": counts, "budget_bytes": budget(checkpoint_bytes(model), counts)}

    def processes(self) -> list[tuple[str, int]]:
        state = self._state()
        members = [(member.kind, member.process.pid) for member in state.members if member.process]
        return [(LAUNCHER, state.launcher.pid), *members]

    def _state(self) -> PodState:
        state = read_state(self._data)
        if state is None:
            raise CliError("the pod is gone")
        return state


@dataclass(frozen=True, slots=True)
class Pod:
    """Counts that are None are compose.yaml's."""

    model: Path
    counts: Mapping[str, int | None]
    name: str = "pod"

    def check(self) -> None:
        find_model(str(self.model))

    @contextmanager
    def running(self) -> Iterator[PodSession]:
        """The launcher ends its members when whoever started it is gone, however that came."""
        with TemporaryDirectory(prefix="xpod-compare-") as directory:
            data = Path(directory).resolve()
            request = PodRequest(data=data, model=str(self.model), port=0, counts=self.counts)
            with interruptible(), started(request, attached=True) as handle:
                wait_ready(handle)
                yield PodSession(data, self.model)
