"""Server-sent events out of bytes, however they are cut.

Knows: the event stream format (the part that servers of completions use).
Does not know: HTTP, or what the data means. Pure.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: `data` are its data lines, joined; `id` is the last id seen on the stream."""

    data: str
    id: str = ""
    name: str = "message"


class SseParser:
    """Feed it bytes, get whole events. Comments (keep-alives) and unknown fields are skipped."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._text = ""
        self._data: list[str] = []
        self._id = ""
        self._name = ""

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        self._text += self._decode(chunk)
        while (line := self._next_line()) is not None:
            if line:
                self._take(line)
            elif self._data:
                yield ServerEvent("\n".join(self._data), self._id, self._name or "message")
                self._data, self._name = [], ""
            else:
                self._name = ""

    def _next_line(self) -> str | None:
        """The next whole line, without its end; CR, LF and CRLF all end one."""
        for position, character in enumerate(self._text):
            if character == "\n":
                break
            if character == "\r":
                if position + 1 == len(self._text):
                    return None  # the LF may be in the next chunk
                break
        else:
            return None
        line = self._text[:position]
        width = 2 if self._text[position : position + 2] == "\r\n" else 1
        self._text = self._text[position + width :]
        return line

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value
        elif name == "event":
            self._name = value
