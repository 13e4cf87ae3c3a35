"""Calls of functions in the text of an answer, found while it grows.

Knows: how Hermes and Qwen models write them: `<tool_call>`, a JSON object with `name` and `arguments`, `</tool_call>`.
Does not know: which functions there are, tokens, or what becomes of a call. Whatever begins like a call and is none
stays text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')


@dataclass(frozen=True, slots=True)
class CallDelta:
    """More of call number `index`: its `id` and `name` at the beginning only, and `arguments`, JSON in pieces."""

    index: int
    arguments: str
    id: str = ""
    name: str = ""


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


class CallReader:
    """Tells words from calls. The result does not depend on how the text was cut into pieces, but for the cuts.

    Calls are named after the `session` that makes them, so that whoever reads it again finds the same names.
    """

    def __init__(self, session: str) -> None:
        self.calls = 0
        self._session = session
        self._held = ""
        self._after_call = False
        self._object = JsonObject()
        self._reads: Callable[[list[CallDelta]], str | None] = self._words

    def push(self, text: str) -> tuple[str, list[CallDelta]]:
        """The words that may go out now, and what there is of calls."""
        self._held += text
        words, calls = "", list[CallDelta]()
        while (read := self._reads(calls)) is not None:
            words += read
        return words, calls

    def flush(self) -> str:
        """What was held back and did not become a call, as the words that it is."""
        held, self._held = self._held, ""
        if self._reads == self._words:
            return held
        return OPEN + held if self._reads == self._head else ""

    # Each reads what it can, says which words that were, and None once it needs more text.

    def _words(self, calls: list[CallDelta]) -> str | None:
        if self._after_call:  # the line break between two calls
            self._held = self._held.lstrip()
            self._after_call = not self._held
        words, tag, rest = self._held.partition(OPEN)
        if tag:
            self._held, self._reads = rest, self._head
            return words
        keep = next((n for n in range(len(OPEN) - 1, 0, -1) if self._held.endswith(OPEN[:n])), 0)
        words, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return words or None

    def _head(self, calls: list[CallDelta]) -> str | None:
        found = _HEAD.match(self._held)
        body, tag, rest = self._held.partition(CLOSE)
        name = _string(found[1]) if found is not None and found.end() <= len(body) else None
        if found is not None and name is not None:
            calls.append(self._begin(name, ""))
            self._held, self._reads, self._object = self._held[found.end() :], self._arguments, JsonObject()
            return ""
        if not tag:
            return None
        self._held, self._reads = rest, self._words
        call = _whole_call(body)
        if call is None:
            return OPEN + body + CLOSE
        calls.append(self._begin(*call))
        self._after_call = True
        return ""

    def _begin(self, name: str, arguments: str) -> CallDelta:
        self.calls += 1
        index = self.calls - 1
        return CallDelta(index, arguments, f"call_{self._session}_{index}", name)

    def _arguments(self, calls: list[CallDelta]) -> str | None:
        if not self._held:
            return None
        end = self._object.end(self._held)
        piece, rest = self._held[:end], self._held[end:]
        calls.append(CallDelta(self.calls - 1, piece))
        if end <= len(self._held):
            self._reads = self._behind
        self._held = rest
        return ""

    def _behind(self, calls: list[CallDelta]) -> str | None:
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
