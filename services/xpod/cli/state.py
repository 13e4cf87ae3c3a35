"""What a launcher writes down about its pod, so that every other command finds it.

Knows: the state file, its lock, and where the logs of a data directory lie.
Does not know: how members are started or watched.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from xpod.cli.errors import CliError
from xpod.cli.process import ProcessRef, is_alive

STATE_FILE = "pod.json"
LOCK_FILE = "pod.lock"
VERSION = 1


@dataclass(slots=True)
class MemberState:
    """One member: `state` is starting, up, down or draining; `since` in Unix seconds; `note` says why it is down."""

    id: str
    kind: str
    process: ProcessRef | None = None
    state: str = "starting"
    since: float = 0.0
    restarts: int = 0
    last_exit: str = ""
    note: str = ""

    @property
    def runs(self) -> bool:
        return self.process is not None and is_alive(self.process)


@dataclass(slots=True)
class PodState:
    """One pod: `phase` is starting, ready, stopping or failed."""

    pod: str
    model: str
    data: str
    launcher: ProcessRef
    endpoints: list[str]
    nats_urls: list[str]
    phase: str = "starting"
    note: str = ""
    members: list[MemberState] = field(default_factory=list)
    version: int = VERSION

    @property
    def launcher_runs(self) -> bool:
        return is_alive(self.launcher)

    def living(self) -> list[MemberState]:
        return [member for member in self.members if member.runs]

    def member(self, name: str) -> MemberState | None:
        return next((member for member in self.members if member.id == name), None)


_ADAPTER = TypeAdapter(PodState)


def logs_dir(data: Path) -> Path:
    return data / "logs"


def write_state(state: PodState) -> None:
    """Replaces the state file as a whole: a reader sees the old one or the new one."""
    path = Path(state.data) / STATE_FILE
    scratch = path.with_suffix(".tmp")
    scratch.write_bytes(_ADAPTER.dump_json(state, indent=1))
    scratch.replace(path)


def read_state(data: Path) -> PodState | None:
    """The pod of this data directory; None when there is none."""
    path = data / STATE_FILE
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise CliError(f"{path} is not a state file of this version of xpod; remove it") from error


def forget_state(data: Path) -> None:
    (data / STATE_FILE).unlink(missing_ok=True)


@contextmanager
def locked(data: Path) -> Iterator[int]:
    """Holds the data directory for one launcher; yields the lock's descriptor, for a process to inherit.

    The kernel lets go of it when the last process that has the descriptor is gone.
    """
    handle = _open_lock(data)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CliError(
                f"a pod runs in {data} already (xpod status shows it, xpod down stops it)"
            ) from None
        yield handle
    finally:
        os.close(handle)


def _open_lock(data: Path) -> int:
    try:
        data.mkdir(parents=True, exist_ok=True)
        return os.open(data / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise CliError(f"{data} cannot hold a pod: {error.strerror}") from error
