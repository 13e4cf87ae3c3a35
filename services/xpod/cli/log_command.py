"""`xpod logs`: what the members of a pod have to say, in order of time.

Knows: options, and how to go on reading. Does not know: the form of a line (see `log_lines`).
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from xpod.cli.errors import BAD_USAGE, CliError
from xpod.cli.log_files import LogFile, members_with_logs
from xpod.cli.log_lines import LogLine, Reader
from xpod.cli.options import DEFAULT_DATA, DataOption
from xpod.cli.state import logs_dir

LOOK_SECONDS = 0.25
Level = Literal["debug", "info", "warning", "error"]


def logs(  # noqa: PLR0917
    members: Annotated[
        list[str] | None, Argument(metavar="[MEMBER]...", help="Of these alone, such as decode-0 or nats-0.")
    ] = None,
    follow: Annotated[
        bool,
        Option("--follow", "-f", envvar="XPOD_FOLLOW", help="Go on with what they say next, until Ctrl-C."),
    ] = False,
    lines: Annotated[
        int,
        Option("--lines", "-n", envvar="XPOD_LINES", min=0, help="The last so many lines of all; 0: all."),
    ] = 100,
    level: Annotated[
        Level, Option("--level", "-l", envvar="XPOD_LEVEL", help="Only from this level on.")
    ] = "info",
    grep: Annotated[
        str,
        Option(
            "--grep",
            "-g",
            envvar="XPOD_GREP",
            metavar="TEXT",
            help="Only lines with this text, such as a session's name.",
        ),
    ] = "",
    raw: Annotated[
        bool, Option("--raw", envvar="XPOD_RAW", help="Lines as they were written: JSON, but for NATS'.")
    ] = False,
    data: DataOption = DEFAULT_DATA,
) -> int:
    """Show the members' logs, in order of time. Those of a pod that has ended are there until the next one starts."""
    directory = logs_dir(data.expanduser().resolve())
    show = _printer(raw)

    def wanted(line: LogLine) -> bool:
        return line.matters(level) and grep in line.raw

    with ExitStack() as files:
        sources = [
            (files.enter_context(closing(LogFile(directory, member))), Reader(member))
            for member in _chosen(directory, members or [])
        ]
        for line in deque(filter(wanted, _news(sources)), maxlen=lines or None):
            show(line)
        while follow:
            sys.stdout.flush()
            time.sleep(LOOK_SECONDS)
            for line in filter(wanted, _news(sources)):
                show(line)
    return 0


def _chosen(directory: Path, members: list[str]) -> list[str]:
    there = members_with_logs(directory)
    if not there:
        raise CliError(f"there are no logs in {directory}")
    for member in members:
        if member not in there:
            raise CliError(f"there is no log of {member} (there are {', '.join(there)})", BAD_USAGE)
    return members or there


def _news(sources: list[tuple[LogFile, Reader]]) -> Iterator[LogLine]:
    """What all have written since, in order of time; what one wrote stays in its order."""
    found = [line for file, reader in sources for line in reader.read_all(file.lines())]
    return iter(sorted(found, key=attrgetter("at")))


def _printer(raw: bool) -> Callable[[LogLine], None]:
    if raw:
        return lambda line: print(line.raw)
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    return lambda line: console.print(line.shown())
