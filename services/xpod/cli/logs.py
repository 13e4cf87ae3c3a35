"""The logs of the members.

Knows: text files that members write to, plain or one JSON object a line.
Does not know: who writes them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

EARLIER = ".1"
"""Ends the name of the file that has a log's earlier lines."""
MOST_BYTES = 32 << 20
COPY_BYTES = 1 << 20
TAIL_BYTES = 16384
_TELLING = ("error", "exception", "[ftl]", "nats-server:")


def rotate(directory: Path) -> None:
    """Sets the logs of the pod before this one aside, as `<member>.log.old`."""
    directory.mkdir(parents=True, exist_ok=True)
    for earlier in directory.glob(f"*.log{EARLIER}"):
        earlier.unlink()
    for log in directory.glob("*.log"):
        log.replace(log.with_suffix(".log.old"))


def keep_small(log: Path, most: int = MOST_BYTES) -> bool:
    """Moves what a log of more than `most` bytes says to the file of its earlier lines, in place of what that said.

    Its writer, who opened it to append, goes on in the same file. A line that is written between the last look and the
    cut is lost. False: there was no need to. Raises OSError.
    """
    if not log.exists() or log.stat().st_size <= most:
        return False
    earlier = log.with_name(f"{log.name}{EARLIER}")
    part = log.with_name(f"{earlier.name}.part")
    with log.open("rb") as source, part.open("wb") as target:
        while data := source.read(COPY_BYTES):
            target.write(data)
        part.replace(earlier)
        while data := source.read(COPY_BYTES):
            target.write(data)
        target.flush()
        os.truncate(log, 0)
    return True


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
