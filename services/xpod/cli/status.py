"""`xpod status`: members and placement.

Knows: whom to ask, and the exit code that scripts rely on.
Does not know: how two views become one (see `membership`), or how they look (see `view`).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from xpod.cli.client import PodClient
from xpod.cli.errors import UNREACHABLE, CliError, ConnectionLost
from xpod.cli.membership import Json, pod_status
from xpod.cli.options import DEFAULT_DATA, DataOption, JsonOption, UrlOption, split_urls
from xpod.cli.state import PodState, read_state


def status(data: DataOption = DEFAULT_DATA, url: UrlOption = "", as_json: JsonOption = False) -> int:
    """Show the members of a pod, and which shard should hold how many experts."""
    state = None if url else running_state(data)
    endpoints = split_urls(url) if state is None else state.endpoints
    report, problem = observed(endpoints, state)
    if as_json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        _show(report)
    if problem:
        print(f"xpod: {problem}", file=sys.stderr)
        return UNREACHABLE
    return 0


def observed(endpoints: list[str], state: PodState | None) -> tuple[Json, str]:
    """The object of `xpod status --json`, and why no router had a part in it. Raises CliError: nothing is known."""
    view, problem = _ask(endpoints)
    if view is None and state is None:
        raise CliError(problem)
    return pod_status(view, state), problem


def running_state(data: Path) -> PodState:
    """The state of the pod in this directory; raises when none runs."""
    state = read_state(data.expanduser().resolve())
    if state is None or not (state.launcher_runs or state.living()):
        raise CliError(f"no pod runs in {data} (xpod up starts one)")
    return state


def _ask(endpoints: list[str]) -> tuple[Json | None, str]:
    """A router's view, or why there is none."""
    try:
        with PodClient(endpoints) as client:
            return client.get("/xpod/status"), ""
    except ConnectionLost as error:
        return None, f"no router answers: {error.message}"


def _show(report: Json) -> None:
    from rich.console import Console

    from xpod.cli.view import members_table, placement_line

    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    console.print(f"{report['pod']}: {'ready' if report['ready'] else 'not ready'}, {report['model']}")
    console.print(members_table(report["members"], time.time()))
    console.print(placement_line(report["placement"]))
    console.print(f"endpoints {', '.join(report['endpoints'])}")
