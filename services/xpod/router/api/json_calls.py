"""Calls as Hermes and most Qwen models write them, as JSON between tags.

    <tool_call>
    {"name": "move", "arguments": {"city": "Ur"}}
    </tool_call>

Knows: that form. Does not know: which functions there are. Whatever begins like a call and is none stays text.
"""

from __future__ import annotations

import json
import re

from xpod.router.api.call_reader import CLOSE, CallDelta, CallReader

_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')


class JsonObject:
    """Where a JSON object ends in a text that comes in pieces. It takes well-formed JSON for granted."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._escaped = False

    def end(self, text: str) -> int:
        """The number of characters that belong to it; all of them, and one more, while it goes on."""
        for at, char in enumerate(text):
            if self._in_string:
                self._in_string = self._escaped or char != '"'
                self._escaped = char == "\\" and not self._escaped
            elif char == '"':
                self._in_string = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return at + 1
        return len(text) + 1


class JsonCalls(CallReader):
    """Arguments are told as they are written."""

    def __init__(self, session: str) -> None:
        super().__init__(session)
        self._object = JsonObject()

    def _head(self, calls: list[CallDelta]) -> str | None:
        found = _HEAD.match(self._held)
        body, tag, _ = self._held.partition(CLOSE)
        name = _string(found[1]) if found is not None and found.end() <= len(body) else None
        if found is not None and name is not None:
            calls.append(self._begin(name))
            self._held, self._reads, self._object = self._held[found.end() :], self._arguments, JsonObject()
            return ""
        if not tag:
            return None
        call = _whole_call(body)
        if call is None:
            return self._no_call(len(body) + len(tag))
        calls.append(self._begin(*call))
        self._reads = self._to_close
        return ""

    def _arguments(self, calls: list[CallDelta]) -> str | None:
        if not self._held:
            return None
        end = self._object.end(self._held)
        piece, rest = self._held[:end], self._held[end:]
        calls.append(self._more(piece))
        if end <= len(self._held):
            self._reads = self._to_close
        self._held = rest
        return ""

    def _to_close(self, calls: list[CallDelta]) -> str | None:
        """What is left of a call, up to its end."""
        _, tag, rest = self._held.partition(CLOSE)
        if not tag:
            return None
        self._held, self._reads, self._after_call = rest, self._words, True
        return ""


def _string(text: str) -> str | None:
    """What a JSON string says; None: it is none."""
    try:
        return str(json.loads(text))
    except ValueError:
        return None


def _whole_call(body: str) -> tuple[str, str] | None:
    """Name and arguments of a call whose members come in another order; None: it is none."""
    try:
        call = json.loads(body)
    except ValueError:
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", call.get("parameters", {}))
    return call["name"], arguments if isinstance(arguments, str) else json.dumps(
        arguments, ensure_ascii=False
    )
