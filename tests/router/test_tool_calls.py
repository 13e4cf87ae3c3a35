"""Calls of functions, found in a text however it was cut."""

from __future__ import annotations

import json
from itertools import combinations, pairwise

import pytest

from xpod.router.api.tool_calls import CallReader, JsonObject

Calls = list[tuple[str, str]]
CASES: dict[str, tuple[str, str, Calls]] = {
    "words": ("no call < at all", "no call < at all", []),
    "a call": (
        '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>',
        "",
        [("f", '{"a": 1}')],
    ),
    "words before": (
        'Let me see.\n<tool_call>{"name":"f","arguments":{}}</tool_call>',
        "Let me see.\n",
        [("f", "{}")],
    ),
    "two calls": (
        '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>\n'
        '<tool_call>\n{"name": "g", "arguments": {"x": [{}]}}\n</tool_call>',
        "",
        [("f", "{}"), ("g", '{"x": [{}]}')],
    ),
    "words behind": (
        '<tool_call>{"name":"f","arguments":{}}</tool_call>\n so it is ',
        "so it is ",
        [("f", "{}")],
    ),
    "brackets and tags in strings": (
        r'<tool_call>{"name": "f", "arguments": {"a": "}\"]</tool_call>\\"}}</tool_call>',
        "",
        [("f", r'{"a": "}\"]</tool_call>\\"}')],
    ),
    "Llama's word": ('<tool_call>{"name":"f","parameters":{"a":2}}</tool_call>', "", [("f", '{"a":2}')]),
    "another order": (
        '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>',
        "",
        [("f", '{"a": 1}')],
    ),
    "arguments as text": (
        '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>',
        "",
        [("f", '{"a": 1}')],
    ),
    "no arguments": ('<tool_call>{"name": "f"}</tool_call>', "", [("f", "{}")]),
    "an escaped name": ('<tool_call>{"name": "\\u0066", "arguments": {}}</tool_call>', "", [("f", "{}")]),
    "no JSON": ("<tool_call>f(1)</tool_call>!", "<tool_call>f(1)</tool_call>!", []),
    "no object": ("<tool_call>[1]</tool_call>", "<tool_call>[1]</tool_call>", []),
    "a name that is none": (
        '<tool_call>{"name": "\\x", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "\\x", "arguments": {}}</tool_call>',
        [],
    ),
    "the end before its name": ('a<tool_call>{"nam', 'a<tool_call>{"nam', []),
    "the end in its arguments": ('<tool_call>{"name": "f", "arguments": {"a', "", [("f", '{"a')]),
    "the end in the tag": ("a<tool_", "a<tool_", []),
}


def read(pieces: list[str]) -> tuple[str, Calls]:
    """Words and calls of a text in pieces."""
    reader, words = CallReader("s1"), ""
    found: list[list[str]] = []
    for piece in pieces:
        said, calls = reader.push(piece)
        words += said
        for call in calls:
            if call.id:
                assert call.id == f"call_s1_{len(found)}"
                found.append([call.name, ""])
            assert call.index == len(found) - 1
            found[-1][1] += call.arguments
    assert reader.calls == len(found)
    return words + reader.flush(), [(name, arguments) for name, arguments in found]


@pytest.mark.parametrize("name", CASES)
def test_words_and_calls(name: str) -> None:
    """Whole, letter by letter, and cut in any two places."""
    text, words, calls = CASES[name]
    cuts = [*combinations(range(1, len(text)), 2), tuple(range(1, len(text))), ()]
    for cut in cuts:
        pieces = [text[a:b] for a, b in pairwise((0, *cut, len(text)))]
        assert read(pieces) == (words, calls), pieces


def test_arguments_come_while_they_are_written() -> None:
    reader = CallReader("s1")
    reader.push('<tool_call>{"name": "f", "arguments": ')
    pieces = [call.arguments for char in '{"city": "Ur"}' for call in reader.push(char)[1]]
    assert "".join(pieces) == '{"city": "Ur"}'
    assert len(pieces) > 10


@pytest.mark.parametrize("value", [{}, {"a": [{"b": "}{"}]}, {"\\": '"'}, {"": {"": {}}}])
def test_where_an_object_ends(value: dict[str, object]) -> None:
    text = json.dumps(value)
    assert JsonObject().end(text + "}]") == len(text)
    assert JsonObject().end(text[:-1]) == len(text)
