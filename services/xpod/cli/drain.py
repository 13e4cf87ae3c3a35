"""`xpod drain`: members hand over their work, end and come back, one after another: an upgrade while the pod serves.

Knows: how to ask a member to end, and when the pod is as it was before. Does not know: what members do with their work.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from xpod.cli.client import PodClient
from xpod.cli.errors import BAD_USAGE, CliError, ConnectionLost
from xpod.cli.kill import hit
from xpod.cli.options import DEFAULT_DATA, DataOption, UrlOption, split_urls
from xpod.cli.state import PodState
from xpod.cli.status import running_state

LOOK_SECONDS = 0.1
ORDER = ("mempool", "supervisor", "expert", "prefill", "decode", "router")
"""Of `--all`. NATS nodes are not xpod's to upgrade: they are drained where they are named."""
Json = dict[str, Any]


def drain(
    members: Annotated[
        list[str] | None, Argument(metavar="[MEMBER]...", help="As xpod status names them, such as decode-0.")
    ] = None,
    everybody: Annotated[
        bool, Option("--all", envvar="XPOD_ALL", help="All members but NATS: a rolling upgrade.")
    ] = False,
    timeout: Annotated[
        float, Option("--timeout", envvar="XPOD_TIMEOUT", min=1.0, help="Seconds for each to be back.")
    ] = 120.0,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
) -> int:
    """Let members hand over their work and end; they are started again with the code that is there by then.

    One after another: the next one ends when the pod is whole again.
    """
    state = running_state(data)
    with PodClient(split_urls(url) or state.endpoints) as client:
        for name in chosen(state, members or [], everybody):
            _drain_one(data, client, name, timeout)
    return 0


def chosen(state: PodState, members: list[str], everybody: bool) -> list[str]:
    """Who is drained, in order. Raises CliError."""
    if bool(members) == everybody:
        raise CliError("name members, or say --all", BAD_USAGE)
    if everybody:
        mine = [member for member in state.members if member.kind in ORDER]
        return [member.id for member in sorted(mine, key=lambda member: ORDER.index(member.kind))]
    return members


@dataclass(frozen=True, slots=True)
class Before:
    """The pod when somebody was asked to end: who was up, how often experts were held, at what time (Unix seconds)."""

    up: frozenset[str]
    copies: int
    at: float

    @classmethod
    def of(cls, view: Json) -> Before:
        up = frozenset(member["id"] for member in view["members"] if member["state"] == "up")
        return cls(up, copies(view), time.time())

    def missing(self, view: Json, name: str, pid: int) -> str:
        """Why the pod is not yet as it was, with `name` as process `pid`; empty: it is."""
        told = {member["id"]: member for member in view["members"]}
        here = told.get(name, {"state": "down", "pid": None, "since": 0.0})
        new = here["pid"] == pid if here["pid"] else here["since"] >= self.at
        if here["state"] != "up" or not new:
            return f"{name} is not up"
        if not view["ready"]:
            return "the pod cannot serve"
        away = sorted(
            other for other in self.up - {name} if other not in told or told[other]["state"] != "up"
        )
        if away:
            return f"{', '.join(away)} not up"
        held = copies(view)
        return "" if held >= self.copies else f"an expert is held {held} times, not {self.copies} times"


def copies(view: Json) -> int:
    """How often the expert is held that is held least."""
    layers = view["placement"]["experts"].values()
    return min((len(held) for layer in layers for held in layer.values()), default=0)


def _drain_one(data: Path, client: PodClient, name: str, timeout: float) -> None:
    began = time.monotonic()
    before = Before.of(client.get("/xpod/status"))
    old = _pid(data, name)
    hit(running_state(data), name, "TERM")
    ended = back = 0.0
    missing = f"{name} has not ended"
    for now in _looks(began, timeout):
        pid = _pid(data, name)
        if pid != old and not ended:
            ended, missing = now, f"{name} was not started again"
        if pid in {None, old}:
            continue
        try:
            missing = before.missing(client.get("/xpod/status"), name, pid)
        except ConnectionLost as error:
            missing = error.message
        if not missing:
            back = now
            break
    else:
        raise CliError(f"after {timeout:g} s: {missing}")
    print(f"{name}: ended after {ended:.1f} s, all is as before after {back:.1f} s")
    sys.stdout.flush()


def _looks(began: float, timeout: float) -> Iterator[float]:
    """Seconds since `began`, now and then, until the timeout."""
    while (gone := time.monotonic() - began) < timeout:
        yield gone
        time.sleep(LOOK_SECONDS)


def _pid(data: Path, name: str) -> int | None:
    """The process that a member is now; None: none."""
    member = running_state(data).member(name)
    return member.process.pid if member is not None and member.process is not None and member.runs else None
