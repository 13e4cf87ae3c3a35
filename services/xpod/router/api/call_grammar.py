"""What answers with calls of functions have to be like: their grammars, in the form in which the model writes calls.

Knows: both forms, in Lark's notation as llguidance reads it. Does not know: how calls are found in an answer (see
`tool_calls`), or when they have to be held to a grammar (see `tools`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

from xpod.router.api.call_reader import CLOSE, OPEN
from xpod.router.api.grammar import Schema
from xpod.router.api.tagged_calls import END_FUNCTION, END_PARAMETER, FUNCTION, PARAMETER, choices_of, is_text
from xpod.router.api.tool_calls import CallForm, Described
from xpod_model.errors import GrammarError
from xpod_model.grammar import COMPACT, of_lark

SHARED = ("$defs", "definitions")
"""Where schemas keep what they refer to, from their root."""
_ANY, _FUNCTION = r"/(.|\n)*/", r"/(.|\n)*<function=(.|\n)*/"
_VALUE = (
    "value[lazy]: VALUE",
    r"VALUE: /(.|\n)*\n<\/parameter>\n/ & ~/(.|\n)*(<parameter=|<\/function>|[^\n]<\/parameter>)(.|\n)*/",
    r"key: /[^<>\n]+/",
)
"""A text in tags, up to its end: with one of the tags in it, nobody would find that."""


class CallGrammar:
    """The grammars of answers with calls of `functions`, for a tokenizer that has some tags as `tokens`."""

    def __init__(
        self, form: CallForm, functions: Sequence[Described], *, several: bool, tokens: Container[str]
    ) -> None:
        self._functions, self._several = functions, several
        self._body: Callable[[str, Described], Iterator[str]] = _as_json if form == "json" else _in_tags
        self._more = () if form == "json" else _VALUE
        self._text = "TEXT: " + (_ANY if form == "json" else f"{_ANY} & ~{_FUNCTION}")
        # a token of its own is not spelled by letters
        self._open, self._close = (tag if tag in tokens else json.dumps(tag) for tag in (OPEN, CLOSE))

    def of_calls(self) -> str:
        """One call at least. Raises GrammarError."""
        return self._made(f"start: {self._calls}", self._call)

    def of_answer(self, schema: Schema) -> str:
        """Calls, or JSON of a schema. Raises GrammarError."""
        return self._made(f"start: answer | {self._calls}", f"answer: %json {_compact(schema)}", self._call)

    def of_text(self) -> str:
        """Any text; what begins like a call is one. Raises GrammarError."""
        more = "(tagged)*" if self._several else "tagged?"
        begin = ["tagged: begin rest", f"begin[lazy]: TEXT {self._open}"]
        if not self._open.startswith('"'):
            begin = [f"tagged: TEXT {self._open} rest"]
        rest = f'rest: "\\n" body "\\n" {self._close}'
        return self._made(f"start: {more} last", "last: TEXT", self._text, *begin, rest)

    @property
    def _calls(self) -> str:
        return 'call ("\\n" call)*' if self._several else "call"

    @property
    def _call(self) -> str:
        return f'call: {self._open} "\\n" body "\\n" {self._close}'

    def _made(self, *rules: str) -> str:
        """What stands between the tags is the same everywhere."""
        names = [f"call_{number}" for number in range(len(self._functions))]
        bodies = [
            rule
            for name, function in zip(names, self._functions, strict=True)
            for rule in self._body(name, function)
        ]
        return of_lark("\n".join([*rules, "body: " + " | ".join(names), *bodies, *self._more]))


def _as_json(rule: str, function: Described) -> Iterator[str]:
    """References in the function's schema begin at the root, another one now."""
    shared, arguments = _apart(function.parameters)
    schema = {
        **shared,
        "type": "object",
        "properties": {"name": {"const": function.name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
    yield f"{rule}: %json {_compact(schema)}"


def _in_tags(rule: str, function: Described) -> Iterator[str]:
    """Parameters in the order in which the schema names them. Raises GrammarError.

    A text may be any, but for the choices of an `enum`; other values are JSON of their schema.
    """
    shared, arguments = _apart(function.parameters)
    known = arguments.get("properties")
    begin, end = json.dumps(f"{FUNCTION}{function.name}>\n"), json.dumps(END_FUNCTION)
    if not isinstance(known, dict):
        yield f'{rule}: {begin} ("{PARAMETER}" key ">\\n" value)* {end}'
        return
    required = arguments.get("required")
    needed = required if isinstance(required, list) else []
    parts = []
    for number, (key, schema) in enumerate(known.items()):
        if set("<>\n") & set(key):
            raise GrammarError(f"the model has no way to write the parameter {key!r}")
        parts.append(f"{rule}_{number}" + ("" if key in needed else "?"))
        tag = json.dumps(f"{PARAMETER}{key}>\n", ensure_ascii=False)
        yield f"{rule}_{number}: {tag} {_value(schema, shared)}"
    yield f"{rule}: {begin} {' '.join(parts)} {end}"


def _value(schema: Any, shared: Mapping[str, Any]) -> str:
    close = json.dumps(f"\n{END_PARAMETER}\n")
    if not is_text(schema):
        return f"({_inline(schema, shared)}) {close}"
    choices = choices_of(schema)
    if choices is None:
        return "value"
    return "(" + " | ".join(json.dumps(each, ensure_ascii=False) for each in choices) + f") {close}"


def _inline(schema: Schema, shared: Mapping[str, Any]) -> str:
    return f"%json {_compact({**shared, **schema} if isinstance(schema, dict) else schema)}"


def _apart(parameters: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a function's schema refers to, and the rest of it."""
    arguments = {"type": "object"} if parameters is None else dict(parameters)
    return {name: arguments.pop(name) for name in SHARED if name in arguments}, arguments


def _compact(schema: Schema) -> str:
    """The schema as text, with the wish that JSON be written as json.dumps does."""
    if isinstance(schema, bool):
        return json.dumps(schema)
    return json.dumps({**schema, "x-guidance": COMPACT})
