"""A comparison as one JSON object, and as a file among others.

Knows: what has to be known beside the figures: when, where, with what.
Does not know: how it looks on a terminal (see `table`).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xpod.cli.bench.compare.rounds import Found, Rounds
from xpod.cli.bench.compare.summary import summary
from xpod.cli.bench.surroundings import machine, versions
from xpod.cli.errors import CliError

REPORT_VERSION = 1
KIND = "compare"


class Report:
    """Made before the measurement begins, for the load average; asked for at any time after."""

    def __init__(self, rounds: Rounds, model: dict[str, Any]) -> None:
        self._rounds, self._model = rounds, model
        self._surroundings = {"machine": machine(), "versions": versions()}
        self.started = datetime.now(UTC)

    @property
    def commit(self) -> str:
        return (self._surroundings["versions"]["commit"] or "none").removesuffix("+")

    def of(self, found: Found, interrupted: bool) -> dict[str, Any]:
        rounds = self._rounds
        return {
            "bench": KIND,
            "report_version": REPORT_VERSION,
            "started": self.started.isoformat(timespec="seconds"),
            "interrupted": interrupted,
            "parameters": {
                "model": self._model,
                "rounds": rounds.count,
                "seed": rounds.seed,
                "cases": {
                    case.name: [case.sequences, case.prompt_tokens, case.output_tokens]
                    for case in rounds.cases
                },
            },
            "contenders": found.contenders,
            **summary(found.runs, found.memory, rounds.cases),
            "runs": found.runs,
            "memory_runs": found.memory,
            "dirty": (self._surroundings["versions"]["commit"] or "").endswith("+"),
            **self._surroundings,
        }

    def write(self, directory: Path, report: dict[str, Any]) -> Path:
        """`<date>-compare-<commit>.json`: sorted by name is sorted by time."""
        path = directory / f"{self.started:%Y-%m-%dT%H%M%SZ}-{KIND}-{self.commit}.json"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            path.write_text(_lines(report))
        except OSError as error:
            raise CliError(f"--results: {path} cannot be written: {error.strerror}") from error
        return path


def _lines(report: dict[str, Any]) -> str:
    """One line for each part and each run, so that a difference between two files can be read."""
    parts = [f"{json.dumps(name)}: {_part(value)}" for name, value in report.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _part(value: object) -> str:
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(f"  {json.dumps(each)}" for each in value) + "\n]"
