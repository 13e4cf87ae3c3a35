"""`xpod kill`: a fault, on purpose.

Knows: how to hit exactly the process of one member, also a NATS node, and nobody who has its pid since.
Does not know: what the pod makes of it.
"""

from __future__ import annotations

import signal as signals
from typing import Annotated, Literal

from typer import Argument, Option

from xpod.cli.errors import BAD_USAGE, CliError
from xpod.cli.options import DEFAULT_DATA, DataOption
from xpod.cli.process import send
from xpod.cli.state import PodState
from xpod.cli.status import running_state

Signal = Literal["KILL", "STOP", "CONT", "TERM"]


def kill(
    member: Annotated[
        str, Argument(metavar="MEMBER", help="As xpod status names it, such as decode-0 or nats-0.")
    ],
    signal: Annotated[
        Signal, Option("--signal", "-s", envvar="XPOD_SIGNAL", help="STOP makes it hang, CONT wakes it.")
    ] = "KILL",
    data: DataOption = DEFAULT_DATA,
) -> int:
    """Send a signal to one member."""
    print(hit(running_state(data), member, signal))
    return 0


def hit(state: PodState, member: str, signal: Signal) -> str:
    """Send a signal to a member of this pod; what was done. Raises CliError."""
    found = state.member(member)
    if found is None:
        names = ", ".join(each.id for each in state.members)
        raise CliError(f"the pod has no member {member} (it has {names})", BAD_USAGE)
    process = found.process
    if process is None or not send(process, signals.Signals[f"SIG{signal}"]):
        raise CliError(f"{member} does not run now ({found.note or found.last_exit or found.state})")
    return f"sent SIG{signal} to {member} (process {process.pid})"
