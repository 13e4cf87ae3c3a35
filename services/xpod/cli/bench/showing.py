"""A report for whoever reads it: as one JSON object, or as tables.

Knows: that a terminal has its own width, and a file or a pipe has room for a long line.
Does not know: what is in a report.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console, RenderableType

PLAIN_WIDTH = 200
"""Columns of a table that goes to a file or a pipe."""


def show(report: dict[str, Any], as_json: bool, as_text: Callable[[dict[str, Any]], RenderableType]) -> None:
    if as_json:
        print(json.dumps(report, ensure_ascii=False), flush=True)
        return
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    Console(highlight=False, width=width).print(as_text(report))


def say(line: str) -> None:
    """What happens meanwhile."""
    print(line, file=sys.stderr, flush=True)
