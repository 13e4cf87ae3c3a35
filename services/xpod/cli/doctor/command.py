"""`xpod doctor`: looks, tells, and says what to do.

Knows: options, and how verdicts are shown. Does not know: what is looked at.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Option

from xpod.cli.doctor.check import Check
from xpod.cli.doctor.machine import this_machine
from xpod.cli.doctor.pod import this_pod
from xpod.cli.options import DEFAULT_DATA, DEFAULT_MODEL, DataOption, JsonOption, ModelOption
from xpod.cli.state import PodState, read_state
from xpod.cli.status import observed

SICK = 1
STYLES = {"ok": "green", "note": "yellow", "bad": "bold red"}


def doctor(
    model: ModelOption = DEFAULT_MODEL,
    port: Annotated[int, Option("--port", envvar="XPOD_PORT", min=0, help="The first router's.")] = 8000,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> int:
    """Check this machine, the model, and the pod that runs here; say what to do about what is wrong.

    Exit code 1: something is.
    """
    directory = data.expanduser().resolve()
    state = read_state(directory)
    runs = state is not None and bool(state.launcher_runs or state.living())
    checks = list(_checks(directory, model, port, state if runs else None))
    if as_json:
        print(json.dumps([asdict(check) for check in checks], ensure_ascii=False))
    else:
        _show(checks)
    return SICK if any(check.verdict == "bad" for check in checks) else 0


def _checks(directory: Path, model: str, port: int, state: PodState | None) -> Iterator[Check]:
    yield from this_machine(directory, model if state is None else state.model, port, runs=state is not None)
    if state is not None:
        yield from this_pod(*observed(state.endpoints, state))


def _show(checks: Iterable[Check]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    for check in checks:
        line = Text.assemble(
            (f"{check.verdict:5}", STYLES[check.verdict]), (f"{check.name:14}", "bold"), check.found
        )
        console.print(line)
        if check.advice:
            console.print(Text(f"{'':19}{check.advice}", "dim"))
