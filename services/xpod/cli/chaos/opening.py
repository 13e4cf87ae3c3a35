"""Which pod is hit: that of a data directory, that of a compose file, or one of its own.

Knows: how each is found or started. Does not know: what is done to it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from xpod.cli.chaos.compose_pod import ComposePod
from xpod.cli.chaos.local_pod import LocalPod
from xpod.cli.chaos.target import Target
from xpod.cli.errors import BAD_USAGE, CliError
from xpod.cli.own_pod import OwnPod, own_pod
from xpod.cli.state import read_state

NATS_NODES = 3
SMALL_CACHES = {
    "XPOD_KV_BYTES": str(32 << 20),
    "XPOD_MEMPOOL_BYTES": str(16 << 20),
    "XPOD_MEMPOOL_DISK_BYTES": str(32 << 20),
}
"""Caches that are full within a minute or two of load: what still grows then grows for ever."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for; `model`, `dtype` and `variables` (settings of the services) are for a pod of its own."""

    data: Path | None
    compose: Path | None
    model: str
    dtype: str
    variables: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def opened(wanted: Wanted) -> Iterator[Target]:
    """The pod to hit, whole. One that was started for this is stopped on the way out."""
    if wanted.data is not None and wanted.compose is not None:
        raise CliError("--data and --compose name different pods", BAD_USAGE)
    if wanted.compose is not None:
        yield _whole(ComposePod(wanted.compose.expanduser().resolve()))
        return
    directory = None if wanted.data is None else wanted.data.expanduser().resolve()
    state = None if directory is None else read_state(directory)
    if directory is not None and state is not None and state.launcher_runs:
        yield _whole(LocalPod(OwnPod(directory), own=False))
        return
    with own_pod(wanted.model, {}, dtype=wanted.dtype, nats=NATS_NODES, variables=wanted.variables) as pod:
        target = LocalPod(pod, own=True)
        try:
            yield _whole(target)
        except CliError:
            tell_logs(target)
            raise


def tell_logs(target: Target) -> None:
    """Something went wrong: keeps what the pod logged, and says where."""
    if kept := target.keep_logs():
        print(f"the pod's logs are kept in {kept}", file=sys.stderr, flush=True)


def _whole(target: Target) -> Target:
    target.wait_whole()
    return target
