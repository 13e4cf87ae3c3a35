"""A comparison as one JSON object, and as a file among others.

Knows: what has to be known beside the figures (and see `result_file`).
Does not know: how it looks on a terminal (see `table`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xpod.cli.bench.compare.rounds import Found, Rounds
from xpod.cli.bench.compare.summary import summary
from xpod.cli.bench.result_file import ResultFile

REPORT_VERSION = 1
KIND = "compare"


class Report:
    """Made before the measurement begins, for the load average; asked for at any time after."""

    def __init__(self, rounds: Rounds, model: dict[str, Any]) -> None:
        self._rounds, self._model = rounds, model
        self._file = ResultFile(KIND, REPORT_VERSION)

    def of(self, found: Found, interrupted: bool) -> dict[str, Any]:
        rounds = self._rounds
        cases = {case.name: [case.sequences, case.prompt_tokens, case.output_tokens] for case in rounds.cases}
        parts = {
            "parameters": {
                "model": self._model,
                "rounds": rounds.count,
                "seed": rounds.seed,
                "cases": cases,
            },
            "contenders": found.contenders,
            **summary(found.runs, found.memory, rounds.cases),
            "runs": found.runs,
            "memory_runs": found.memory,
        }
        return self._file.report(parts, interrupted)

    def write(self, directory: Path, report: dict[str, Any]) -> Path:
        return self._file.write(directory, report)
