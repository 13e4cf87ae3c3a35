"""Who takes part: something that can be started, asked the cases, and stopped.

Knows: what the rounds need of a contender.
Does not know: what it is.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from xpod.cli.bench.compare.cases import Case, Prompts
from xpod.cli.bench.compare.taken import Taken


class Session(Protocol):
    """A contender that runs. `facts` is what is to be known of it: sizes, threads, versions."""

    facts: dict[str, Any]

    def take(self, case: Case, prompts: Prompts) -> Taken:
        """Runs one case. Raises CliError where the contender is gone."""

    def processes(self) -> list[tuple[str, int]]:
        """(kind, pid) of all that belongs to it; empty where that is not known."""


class Contender(Protocol):
    @property
    def name(self) -> str: ...

    def check(self) -> None:
        """Raises CliError where it can never start: asked before anything runs."""

    def running(self) -> AbstractContextManager[Session]:
        """Starts it, and on the way out leaves no process behind. Raises CliError where it does not start."""
