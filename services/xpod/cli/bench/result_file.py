"""What every result says beside its figures, and its file among others.

Knows: what has to be known of a measurement: when, where, with what; and how a file of results is named.
Does not know: what was measured.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xpod.cli.bench.surroundings import machine, versions
from xpod.cli.errors import CliError

Json = dict[str, Any]


class ResultFile:
    """Made before the measurement begins, for the time and the load average."""

    def __init__(self, kind: str, version: int) -> None:
        self._kind, self._version = kind, version
        self._surroundings = {"machine": machine(), "versions": versions()}
        self.started = datetime.now(UTC)

    def report(self, found: Json, interrupted: bool) -> Json:
        """What was found, as one JSON object."""
        commit = self._surroundings["versions"]["commit"] or ""
        return {
            "bench": self._kind,
            "report_version": self._version,
            "started": self.started.isoformat(timespec="seconds"),
            "interrupted": interrupted,
            **found,
            "dirty": commit.endswith("+"),
            **self._surroundings,
        }

    def write(self, directory: Path, report: Json) -> Path:
        """`<date>-<kind>-<commit>.json`: sorted by name is sorted by time."""
        commit = (self._surroundings["versions"]["commit"] or "none").removesuffix("+")
        path = directory / f"{self.started:%Y-%m-%dT%H%M%SZ}-{self._kind}-{commit}.json"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            path.write_text(_lines(report))
        except OSError as error:
            raise CliError(f"--results: {path} cannot be written: {error.strerror}") from error
        return path


def _lines(report: Json) -> str:
    """One line for each part and each run, so that a difference between two files can be read."""
    parts = [f"{json.dumps(name)}: {_part(value)}" for name, value in report.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _part(value: object) -> str:
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(f"  {json.dumps(each)}" for each in value) + "\n]"
