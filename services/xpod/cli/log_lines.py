"""Lines of members' logs: what each says, and when, so that those of all members can be put in order.

Knows: the JSON of xpod's services, the form of nats-server's lines, and that other text belongs to the line before it.
Does not know: files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.text import Text

LEVELS = ("debug", "info", "warning", "error")
_STYLES = {"debug": "dim", "warning": "yellow", "error": "bold red", "critical": "bold red"}
_NATS = re.compile(r"\[\d+\] (\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d+) \[([A-Z]{3})\] (.*)")
_NATS_LEVELS = {
    "TRC": "debug",
    "DBG": "debug",
    "INF": "info",
    "WRN": "warning",
    "ERR": "error",
    "FTL": "error",
}
_SAME_FOR_ALL = frozenset({"event", "timestamp", "level", "pod", "member", "exception"})
EARLIEST = datetime.min.replace(tzinfo=UTC)
"""Of text before any line that tells its time."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """`raw` is the line as it was written; `level` is empty where it tells none."""

    at: datetime
    member: str
    level: str
    text: str
    raw: str

    def matters(self, least: str) -> bool:
        """Is it of that level or above? What tells no level may be anything, so it matters."""
        return self.level not in LEVELS or LEVELS.index(self.level) >= LEVELS.index(least)

    def shown(self) -> Text:
        """For a terminal, in local time."""
        when = "" if self.at == EARLIEST else self.at.astimezone().strftime("%H:%M:%S.%f")[:-3]
        return Text.assemble(
            (f"{when:12} ", "dim"), (f"{self.member:13} ", "cyan"), (self.text, _STYLES.get(self.level, ""))
        )


class Reader:
    """Reads one member's lines, in their order."""

    def __init__(self, member: str) -> None:
        self._member = member
        self._before = (EARLIEST, "")

    def read(self, raw: str) -> LogLine:
        """The next line, without its end."""
        at, level, text = _of_service(raw) or _of_nats(raw) or (*self._before, raw)
        self._before = (at, level)
        return LogLine(at, self._member, level, text, raw)

    def read_all(self, lines: Iterable[str]) -> Iterator[LogLine]:
        for line in lines:
            if line.strip():
                yield self.read(line)


def _of_service(raw: str) -> tuple[datetime, str, str] | None:
    if not raw.startswith("{"):
        return None
    try:
        record = json.loads(raw)
        at = datetime.fromisoformat(record["timestamp"])
    except (ValueError, KeyError, TypeError):
        return None
    fields = " ".join(
        f"{name}={_value(value)}" for name, value in record.items() if name not in _SAME_FOR_ALL
    )
    text = f"{record.get('event', '')}  {fields}".strip()
    if trace := record.get("exception"):
        text += f"\n{trace}"
    return at, str(record.get("level", "")), text


def _of_nats(raw: str) -> tuple[datetime, str, str] | None:
    match = _NATS.match(raw)
    if match is None:
        return None
    at = datetime.strptime(match[1], "%Y/%m/%d %H:%M:%S.%f").astimezone()  # the server writes local time
    return at, _NATS_LEVELS.get(match[2], ""), match[3]


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text
