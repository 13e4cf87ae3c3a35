"""A pod of our own: started as `xpod up` does, with nothing in it, and stopped.

Knows: its processes, and where it keeps what it has.
Does not know: what it is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from xpod.cli.errors import CliError
from xpod.cli.starting import PodRequest, started
from xpod.cli.state import PodState, read_state
from xpod.cli.terminal import interruptible, wait_ready

LAUNCHER = "launcher"


@dataclass(frozen=True, slots=True)
class OwnPod:
    """A pod that runs, in this directory."""

    data: Path

    def state(self) -> PodState:
        """Raises CliError where the pod is gone."""
        state = read_state(self.data)
        if state is None:
            raise CliError("the pod is gone")
        return state

    def counts(self) -> dict[str, int]:
        """Processes of each kind, NATS' and the launcher's too."""
        counts: dict[str, int] = {LAUNCHER: 1}
        for member in self.state().members:
            counts[member.kind] = counts.get(member.kind, 0) + 1
        return counts

    def processes(self) -> list[tuple[str, int]]:
        """(kind, pid) of those that run now."""
        state = self.state()
        members = [(member.kind, member.process.pid) for member in state.members if member.process]
        return [(LAUNCHER, state.launcher.pid), *members]


@contextmanager
def own_pod(
    model: Path | str,
    counts: Mapping[str, int | None],
    *,
    dtype: str = "auto",
    nats: int | None = None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[OwnPod]:
    """Counts that are None are compose.yaml's, `nats` None is one node; `variables` are settings of the services.

    The launcher ends its members when whoever started it is gone, however that came.
    """
    with TemporaryDirectory(prefix="xpod-") as directory:
        data = Path(directory).resolve()
        request = PodRequest(
            data=data,
            model=str(model),
            dtype=dtype,
            port=0,
            counts=counts,
            nats=nats,
            variables=variables or {},
        )
        with interruptible(), started(request, attached=True) as handle:
            wait_ready(handle)
            yield OwnPod(data)
