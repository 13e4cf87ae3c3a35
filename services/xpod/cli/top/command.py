"""`xpod top`: the pod, live.

Knows: options, and which pod is meant. Does not know: the screen.
"""

from __future__ import annotations

import sys
from typing import Annotated

from typer import Option

from xpod.cli.errors import BAD_USAGE, CliError
from xpod.cli.kill import Signal, hit
from xpod.cli.options import DEFAULT_DATA, DataOption, UrlOption, split_urls
from xpod.cli.state import PodState, read_state
from xpod.cli.status import running_state


def top(
    interval: Annotated[
        float, Option("--interval", envvar="XPOD_INTERVAL", min=0.2, help="Seconds between two looks.")
    ] = 1.0,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
) -> int:
    """Watch a pod: members and their load, experts, tokens, hops, recoveries. Keys kill and stop members."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CliError("xpod top needs a terminal (xpod status --json is for scripts)", BAD_USAGE)
    from xpod.cli.top.feed import Feed
    from xpod.cli.top.screen import Top

    def state() -> PodState | None:
        return None if url else read_state(data.expanduser().resolve())

    def send(member: str, signal: Signal) -> str:
        known = state()
        if known is None:
            raise CliError("only members of a pod that this machine launched can be hit from here")
        return hit(known, member, signal)

    feed = Feed(split_urls(url) if url else running_state(data).endpoints, state)
    try:
        feed.read()  # what cannot be reached is told before the screen is taken
        Top(feed.read, send, interval).run()
    finally:
        feed.close()
    return 0
