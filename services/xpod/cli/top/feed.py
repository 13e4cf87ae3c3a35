"""Asks a pod what it is like now.

Knows: the routers' paths for status and metrics, and the launcher's state where the pod runs here.
Does not know: what is made of the answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from xpod.cli.client import PodClient
from xpod.cli.errors import CliError, ConnectionLost
from xpod.cli.membership import Json, pod_status
from xpod.cli.state import PodState
from xpod.cli.top.samples import Moment, Samples


class Feed:
    """`state` tells of the processes of a pod of this machine, anew each time; None: it runs elsewhere."""

    def __init__(self, endpoints: Sequence[str], state: Callable[[], PodState | None]) -> None:
        self._client, self._state = PodClient(endpoints), state

    def read(self) -> Moment:
        """Now. Whoever does not answer has no samples. Raises CliError where nothing is known at all."""
        view, problem = self._view()
        state = self._state()
        if view is None and state is None:
            raise CliError(problem)
        status = pod_status(view, state)
        told = [member["id"] for member in (view or {}).get("members", []) if _measures(member)]
        samples = {member: found for member in told if (found := self._samples(member)) is not None}
        return Moment(time.monotonic(), status | {"problem": problem}, samples)

    def close(self) -> None:
        self._client.__exit__()

    def _view(self) -> tuple[Json | None, str]:
        try:
            return self._client.get("/xpod/status"), ""
        except ConnectionLost as error:
            return None, f"no router answers: {error.message}"

    def _samples(self, member: str) -> Samples | None:
        try:
            return Samples.of(self._client.text(f"/xpod/metrics/{member}"))
        except (ConnectionLost, ValueError):
            return None


def _measures(member: Json) -> bool:
    return member["kind"] != "nats" and member["state"] in {"up", "draining"}
