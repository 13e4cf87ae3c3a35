"""How a measurement ends: shown however it ended, kept in a file, and judged.

Knows: exit codes, and that what was found before an interruption is worth showing.
Does not know: what was measured.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import RenderableType

from xpod.cli.bench.result_file import ResultFile
from xpod.cli.bench.showing import show
from xpod.cli.errors import DONE, INTERRUPTED, REFUSED, CliError
from xpod.cli.terminal import interruptible

Json = dict[str, Any]


class Measured(Protocol):
    """What it has found can be asked for at any time; empty `parts`: nothing yet."""

    def measure(self) -> None:
        """Raises CliError where it cannot go on."""

    def parts(self) -> Json: ...

    def complaint(self) -> str:
        """Why what was measured is no good; empty where it is."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where a report goes: to stdout, as JSON or as text, and as a file into `results`."""

    as_text: Callable[[Json], RenderableType]
    as_json: bool
    results: Path | None


def conclude(measured: Measured, file: ResultFile, output: Output) -> int:
    """Measures, shows and judges. Raises CliError for what broke it, and for results that are no good."""
    interrupted, broken = _run(measured)
    parts = measured.parts()
    report = file.report(parts, interrupted)
    if parts:
        show(report, output.as_json, output.as_text)
    if broken is not None:
        raise broken
    if interrupted:
        return INTERRUPTED
    if output.results is not None:
        print(file.write(output.results, report), file=sys.stderr)
    complaint = measured.complaint()
    if complaint:
        raise CliError(complaint, REFUSED)
    return DONE


def _run(measured: Measured) -> tuple[bool, CliError | None]:
    """Whether it was interrupted, and what broke it."""
    try:
        with interruptible():
            measured.measure()
    except KeyboardInterrupt:
        return True, None
    except CliError as error:
        return False, error
    return False, None
