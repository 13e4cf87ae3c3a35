"""A pod to ask: the one that runs, else one of our own for as long as it takes.

Knows: how to tell whether a pod runs, and what a pod for a single question needs.
Does not know: what it is asked.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xpod.cli.client import NO_ROUTER
from xpod.cli.errors import CliError
from xpod.cli.options import split_urls
from xpod.cli.starting import READY_SECONDS, PodRequest, started
from xpod.cli.state import PodState, read_state
from xpod.cli.terminal import interruptible, wait_ready

SMALL_POD: dict[str, int | None] = {
    "router": 1,
    "prefill": 1,
    "decode": 1,
    "expert": 2,
    "mempool": 1,
    "supervisor": 1,
}
"""Nobody has the time to kill anything in a pod that answers one question: spares would only start more slowly."""
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Asking:
    """Which pod to ask: at `urls`, else in `data`, else a new one with this model."""

    data: Path
    url: str
    model: str
    dtype: str
    device: str


@contextmanager
def borrowed(asking: Asking) -> Iterator[list[str]]:
    """The endpoints of a pod that is ready. One that was started for this is stopped on the way out."""
    if asking.url:
        yield split_urls(asking.url)
        return
    endpoints = running_endpoints(asking.data)
    if endpoints:
        yield endpoints
        return
    request = PodRequest(
        data=asking.data,
        model=asking.model,
        dtype=asking.dtype,
        device=asking.device,
        port=0,
        counts=SMALL_POD,
    )
    with interruptible(), started(request, attached=True) as handle:
        wait_ready(handle)
        yield running_endpoints(asking.data)


def running_endpoints(data: Path) -> list[str]:
    """The endpoints of the pod in this directory, once it has started; none when none runs."""
    directory = data.expanduser().resolve()
    deadline = time.monotonic() + READY_SECONDS
    while (state := read_state(directory)) is not None and _runs(state):
        if state.phase != "starting" or not state.launcher_runs:
            if not state.endpoints:
                raise CliError(NO_ROUTER)
            return state.endpoints
        if time.monotonic() > deadline:
            raise CliError(f"the pod in {data} is still starting after {READY_SECONDS:g} s")
        time.sleep(POLL_SECONDS)
    return []


def _runs(state: PodState) -> bool:
    return state.launcher_runs or any(member.kind == "router" for member in state.living())
