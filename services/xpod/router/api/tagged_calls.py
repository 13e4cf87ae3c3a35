"""Calls as Qwen3-Coder models write them, with a tag for the function and one for each of its parameters.

    <tool_call>
    <function=move>
    <parameter=city>
    Ur
    </parameter>
    </function>
    </tool_call>

Knows: that form, and that such models forget a tag now and then: `<tool_call>`, or one that closes. Values are text;
which of them are numbers, lists and the like, only the functions' schemas say. Does not know: grammars.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from xpod.router.api.call_reader import CLOSE, OPEN, CallDelta, CallReader, kept_back

FUNCTION, END_FUNCTION = "<function=", "</function>"
PARAMETER, END_PARAMETER = "<parameter=", "</parameter>"
_HEADS = {
    OPEN: re.compile(r"\s*<function=([^<>\n]{1,64})>"),
    FUNCTION: re.compile(r"([^<>\n]{1,64})>"),
}
_KEY = re.compile(r"([^<>\n]{1,256})>\n?")
_UNENDED = re.compile(r"[^<>\n]{0,256}")
_ENDS = (END_PARAMETER, PARAMETER, END_FUNCTION)
"""Of a value: its own, or one that shows that it was forgotten. The model's authors read it so, too."""
_AT_END = tuple(f"\n{tag}" for tag in _ENDS)

Parameters = Mapping[str, Mapping[str, Any]]
"""Of each function, the schema of its arguments."""


class TaggedCalls(CallReader):
    """Texts are told as they are written, other values when they are there."""

    begins = (OPEN, FUNCTION)

    def __init__(self, session: str, parameters: Parameters) -> None:
        super().__init__(session)
        self._parameters = parameters
        self._schema: Mapping[str, Any] = {}
        self._empty = self._is_text = True

    def _head(self, calls: list[CallDelta]) -> str | None:
        found = _HEADS[self._begun].match(self._held)
        if found is None:
            return None if self._may_be_head() else self._no_call(0)
        calls += [self._begin(found[1]), self._more("{")]
        self._schema, self._empty = self._parameters.get(found[1], {}), True
        self._held, self._reads = self._held[found.end() :], self._parameter
        return ""

    def _may_be_head(self) -> bool:
        """With more text."""
        body = self._held
        if self._begun == OPEN:
            body = body.lstrip()
            if not body.startswith(FUNCTION):
                return FUNCTION.startswith(body)
            body = body.removeprefix(FUNCTION)
        return _UNENDED.fullmatch(body) is not None

    def _parameter(self, calls: list[CallDelta]) -> str | None:
        """The tag of the next one, or the end; whatever else stands there is nothing."""
        self._held = self._held.lstrip()
        if self._held.startswith(PARAMETER):
            return self._key(calls)
        if self._held.startswith((END_FUNCTION, CLOSE)):
            calls.append(self._more("}"))
            self._held, self._reads = self._held.removeprefix(END_FUNCTION), self._behind
            return ""
        if any(tag.startswith(self._held) for tag in (PARAMETER, END_FUNCTION, CLOSE)):
            return None
        _, tag, rest = self._held[1:].partition("<")
        self._held = tag + rest
        return ""

    def _behind(self, calls: list[CallDelta]) -> str | None:
        """The last tag, if it was not forgotten."""
        self._held = self._held.lstrip()
        if CLOSE.startswith(self._held) and self._held != CLOSE:
            return None
        self._held, self._reads, self._after_call = self._held.removeprefix(CLOSE), self._words, True
        return ""

    def _key(self, calls: list[CallDelta]) -> str | None:
        inside = self._held.removeprefix(PARAMETER)
        found = _KEY.match(inside)
        if found is None:
            if _UNENDED.fullmatch(inside):
                return None
            self._held = inside
            return ""
        if found.end() == len(inside) and not found[0].endswith("\n"):
            return None  # the line break still comes
        key = found[1]
        self._is_text = is_text(properties_of(self._schema).get(key))
        comma, quote = "" if self._empty else ", ", '"' if self._is_text else ""
        calls.append(self._more(f"{comma}{json.dumps(key, ensure_ascii=False)}: {quote}"))
        self._empty = False
        self._held, self._reads = inside[found.end() :], self._value
        return ""

    def _value(self, calls: list[CallDelta]) -> str | None:
        at, tag = min(((at, tag) for tag in _ENDS if (at := self._held.find(tag)) >= 0), default=(-1, ""))
        if not tag:
            if not self._is_text:
                return None
            keep = max(kept_back(self._held, _ENDS), kept_back(self._held, _AT_END))
            piece, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
            if not piece:
                return None
            calls.append(self._more(_inside_quotes(piece)))
            return ""
        value, rest = self._held[:at].removesuffix("\n"), self._held[at:]
        calls.append(self._more(_inside_quotes(value) + '"' if self._is_text else as_json(value)))
        self._held, self._reads = rest.removeprefix(END_PARAMETER), self._parameter
        return ""


def properties_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Those that it names; clients may write anything there."""
    named = schema.get("properties")
    return named if isinstance(named, dict) else {}


def is_text(schema: Any) -> bool:
    """Is every value of the schema a text? So is one that nothing is known of."""
    if not isinstance(schema, dict):
        return True
    choices = choices_of(schema)
    if choices is not None:
        return all(isinstance(choice, str) for choice in choices)
    return schema.get("type") == "string"


def choices_of(schema: Any) -> list[Any] | None:
    """The values that it names; None: it names none."""
    if not isinstance(schema, dict):
        return None
    choices = [schema["const"]] if "const" in schema else schema.get("enum")
    return choices if isinstance(choices, list) else None


def as_json(value: str) -> str:
    """What is no text, as JSON; text after all, where it makes no sense."""
    said = {"True": "true", "False": "false", "None": "null"}.get(value.strip(), value)
    try:
        return json.dumps(json.loads(said, parse_constant=_refuse), ensure_ascii=False)
    except (ValueError, RecursionError):
        return json.dumps(value, ensure_ascii=False)


def _refuse(name: str) -> None:
    """JSON has no NaN and no Infinity."""
    raise ValueError(name)


def _inside_quotes(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
