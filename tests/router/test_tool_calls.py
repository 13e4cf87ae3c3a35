"""Calls of functions, found in a text however it was cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations, pairwise

import pytest

from xpod.router.api.call_reader import CallReader
from xpod.router.api.json_calls import JsonCalls, JsonObject
from xpod.router.api.tagged_calls import TaggedCalls

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
PARAMETERS = {
    "f": {
        "type": "object",
        "properties": {
            "a": {"type": "integer"},
            "b": {"type": "array"},
            "c": {"type": "boolean"},
            "d": {"type": ["string", "null"]},
            "e": {"enum": ["x", "y"]},
            "s": {"type": "string"},
        },
    },
    "odd": {"properties": 5},
}


def tagged(*parameters: tuple[str, str], name: str = "f") -> str:
    values = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in parameters)
    return f"<tool_call>\n<function={name}>\n{values}</function>\n</tool_call>"


TAGGED: dict[str, tuple[str, str, Calls]] = {
    "words": ("no call < at <tool all", "no call < at <tool all", []),
    "a text": (tagged(("s", "Ur")), "", [("f", '{"s": "Ur"}')]),
    "values": (
        tagged(("a", "3"), ("b", '[1, "x"]'), ("c", "true"), ("e", "y"), ("s", "7")),
        "",
        [("f", '{"a": 3, "b": [1, "x"], "c": true, "e": "y", "s": "7"}')],
    ),
    "as Python writes them": (
        tagged(("c", "False"), ("d", "None")),
        "",
        [("f", '{"c": false, "d": null}')],
    ),
    "values that make no sense": (
        tagged(("a", "2026-01-15"), ("b", "NaN"), ("d", "so")),
        "",
        [("f", '{"a": "2026-01-15", "b": "NaN", "d": "so"}')],
    ),
    "nobody knows the parameter": (tagged(("z", "1")), "", [("f", '{"z": "1"}')]),
    "nobody knows the function": (tagged(("a", "1"), name="g"), "", [("g", '{"a": "1"}')]),
    "lines, quotes and brackets": (
        tagged(("s", '\n  a = "<b>"\n\n</p>\\')),
        "",
        [("f", '{"s": "\\n  a = \\"<b>\\"\\n\\n</p>\\\\"}')],
    ),
    "an empty text": (tagged(("s", "")), "", [("f", '{"s": ""}')]),
    "no parameters": (tagged(), "", [("f", "{}")]),
    "on one line": (
        "<tool_call><function=f><parameter=s>Ur</parameter><parameter=a>1</parameter></function></tool_call>",
        "",
        [("f", '{"s": "Ur", "a": 1}')],
    ),
    "words around": (f"Well.\n{tagged(('a', '1'))}\n so", "Well.\nso", [("f", '{"a": 1}')]),
    "two calls": (
        f"{tagged(('a', '1'))}\n{tagged(('a', '2'))}",
        "",
        [("f", '{"a": 1}'), ("f", '{"a": 2}')],
    ),
    "no first tag": (
        tagged(("a", "1")).removeprefix("<tool_call>\n"),
        "",
        [("f", '{"a": 1}')],
    ),
    "no first and no last tag": (
        "<function=f>\n</function>\nso\n<function=f>\n</function>",
        "so\n",
        [("f", "{}"), ("f", "{}")],
    ),
    "no end of a parameter": (
        "<tool_call><function=f>\n<parameter=s>\nUr\n<parameter=a>\n1\n</function></tool_call>",
        "",
        [("f", '{"s": "Ur", "a": 1}')],
    ),
    "no end of the function": (
        "<tool_call><function=f>\n<parameter=a>\n1\n</parameter>\n</tool_call>.",
        ".",
        [("f", '{"a": 1}')],
    ),
    "something between": (
        "<tool_call><function=f> x <parameter=a>1</parameter> <y> </function></tool_call>",
        "",
        [("f", '{"a": 1}')],
    ),
    "a schema that is none": (tagged(("a", "1"), name="odd"), "", [("odd", '{"a": "1"}')]),
    "JSON": (
        '<tool_call>{"name": "f"}</tool_call>',
        '<tool_call>{"name": "f"}</tool_call>',
        [],
    ),
    "no name": ("<tool_call>\n<function=>\n!", "<tool_call>\n<function=>\n!", []),
    "the end before its name": ("a<tool_call>\n<func", "a<tool_call>\n<func", []),
    "the end in its name": ("a<function=mo", "a<function=mo", []),
    "the end in a text": ("<function=f>\n<parameter=s>\nUr", "", [("f", '{"s": "Ur')]),
}


def json_calls() -> CallReader:
    return JsonCalls("s1")


def tagged_calls() -> CallReader:
    return TaggedCalls("s1", PARAMETERS)


def read(reader: CallReader, pieces: list[str]) -> tuple[str, Calls]:
    """Words and calls of a text in pieces."""
    words = ""
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


@pytest.mark.parametrize(
    ("reader", "text", "words", "calls"),
    [(json_calls, *case) for case in CASES.values()] + [(tagged_calls, *case) for case in TAGGED.values()],
    ids=[*CASES, *(f"tagged: {name}" for name in TAGGED)],
)
def test_words_and_calls(reader: Callable[[], CallReader], text: str, words: str, calls: Calls) -> None:
    """Whole, letter by letter, and cut in any two places."""
    cuts = [*combinations(range(1, len(text)), 2), tuple(range(1, len(text))), ()]
    for cut in cuts:
        pieces = [text[a:b] for a, b in pairwise((0, *cut, len(text)))]
        assert read(reader(), pieces) == (words, calls), pieces


def test_texts_in_tags_come_while_they_are_written() -> None:
    reader = tagged_calls()
    reader.push("<tool_call>\n<function=f>\n<parameter=s>\n")
    pieces = [call.arguments for char in "a long text\n</par" for call in reader.push(char)[1]]
    assert "".join(pieces) == "a long text"
    assert len(pieces) > 10


def test_arguments_come_while_they_are_written() -> None:
    reader = json_calls()
    reader.push('<tool_call>{"name": "f", "arguments": ')
    pieces = [call.arguments for char in '{"city": "Ur"}' for call in reader.push(char)[1]]
    assert "".join(pieces) == '{"city": "Ur"}'
    assert len(pieces) > 10


@pytest.mark.parametrize("value", [{}, {"a": [{"b": "}{"}]}, {"\\": '"'}, {"": {"": {}}}])
def test_where_an_object_ends(value: dict[str, object]) -> None:
    text = json.dumps(value)
    assert JsonObject().end(text + "}]") == len(text)
    assert JsonObject().end(text[:-1]) == len(text)
