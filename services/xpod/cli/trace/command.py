"""`xpod trace`: one request as a waterfall, or the newest ones.

Knows: options, and whom to ask. Does not know: how a trace looks.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from typer import Argument, Option

from xpod.cli.client import PodClient
from xpod.cli.errors import REFUSED, CliError, NotThere
from xpod.cli.options import DEFAULT_DATA, DataOption, JsonOption, UrlOption, split_urls
from xpod.cli.status import running_state

if TYPE_CHECKING:
    from rich.console import Console

LOOKS, LOOK_SECONDS = 5, 0.1
"""A router ends the span of a request a moment after its client has all of the answer."""


def trace(  # noqa: PLR0917
    request: Annotated[
        str,
        Argument(
            metavar="[REQUEST]",
            help="The id of an answer (cmpl-…, chatcmpl-…, resp_…), a session or a trace; without: the newest.",
        ),
    ] = "",
    spans: Annotated[
        bool, Option("--spans", envvar="XPOD_SPANS", help="A line for each span, also where they are many.")
    ] = False,
    last: Annotated[
        int, Option("--last", "-n", envvar="XPOD_LAST", min=1, max=1000, help="List so many requests.")
    ] = 20,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    as_json: JsonOption = False,
) -> int:
    """Show where a request's time went: in the queue, in which worker, hop by hop, and what faults cost it."""
    endpoints = split_urls(url) if url else running_state(data).endpoints
    with PodClient(endpoints) as client:
        answer = read_trace(client, request) if request else client.get(f"/xpod/traces?most={last}")
    if as_json:
        print(json.dumps(answer, ensure_ascii=False))
    elif request:
        show_trace(answer, spans=spans)
    else:
        _list(answer["requests"])
    return 0


def read_trace(client: PodClient, request: str) -> dict[str, Any]:
    """What the pod knows of a request. Raises CliError."""
    try:
        return client.get(f"/xpod/trace/{quote(request, safe='')}")
    except NotThere as error:
        raise CliError(error.message, REFUSED) from error


def read_ended(client: PodClient, request: str) -> dict[str, Any]:
    """As `read_trace`, of a request whose answer has just been read."""
    for _ in range(LOOKS):
        answer = read_trace(client, request)
        if all(span["end_ns"] is not None for span in answer["spans"]):
            break
        time.sleep(LOOK_SECONDS)
    return answer


def show_trace(answer: dict[str, Any], *, spans: bool = False, stderr: bool = False) -> None:
    """Draws it."""
    from xpod.cli.trace.waterfall import draw

    draw(_console(stderr), answer, everything=spans)


def _list(requests: list[dict[str, Any]]) -> None:
    from xpod.cli.trace.recent import recent_table

    if not requests:
        print("no request yet", file=sys.stderr)
        return
    _console(stderr=False).print(recent_table(requests, time.time()), soft_wrap=not sys.stdout.isatty())


def _console(stderr: bool) -> Console:
    from rich.console import Console

    return Console(highlight=False, stderr=stderr)
