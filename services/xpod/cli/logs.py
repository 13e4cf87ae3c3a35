"""The logs of the members.

Knows: text files that members write to, plain or one JSON object a line.
Does not know: who writes them.
"""

from __future__ import annotations

import json
from pathlib import Path

TAIL_BYTES = 16384
_TELLING = ("error", "exception", "[ftl]", "nats-server:")


def rotate(directory: Path) -> None:
    """Sets the logs of the pod before this one aside, as `<member>.log.old`."""
    directory.mkdir(parents=True, exist_ok=True)
    for log in directory.glob("*.log"):
        log.replace(log.with_suffix(".log.old"))


def last_line(log: Path) -> str:
    """The last line that tells of an error, else the last line."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - TAIL_BYTES))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        lines = []
    lines = [line.strip() for line in lines if line.strip()]
    telling = [line for line in lines if any(word in line.lower() for word in _TELLING)]
    chosen = (telling or lines or [f"nothing in {log}"])[-1]
    return _plain(chosen)[:400]


def _plain(line: str) -> str:
    """The text of a structured log line: its event and its error."""
    try:
        record = json.loads(line)
    except ValueError:
        return line
    if not isinstance(record, dict):
        return line
    parts = [str(record[key]) for key in ("event", "error", "reason") if record.get(key)]
    return ": ".join(parts) or line
