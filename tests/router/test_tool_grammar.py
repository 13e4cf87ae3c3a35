"""Calls that a grammar holds a model to: what it lets through, with real tokens."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer

from xpod.router.api.errors import ApiError
from xpod.router.api.requests import ChatRequest
from xpod.router.api.tools import chat_grammar_of
from xpod_model.checkpoint import Checkpoint
from xpod_model.demo import demo_path
from xpod_model.errors import GrammarError
from xpod_model.guide import Grammars
from xpod_model.text import Text

POINT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
SHARED = {
    "type": "object",
    "properties": {"at": {"$ref": "#/$defs/Point"}},
    "required": ["at"],
    "additionalProperties": False,
    "$defs": {"Point": POINT},
}
MOVE = {"type": "function", "function": {"name": "move", "parameters": SHARED}}
STOP = {"type": "function", "function": {"name": "stop"}}
ONE = {"type": "function", "function": {"name": "move"}}
REQUIRED: dict[str, Any] = {"tools": [MOVE, STOP], "tool_choice": "required"}
STRICT: dict[str, Any] = {
    "tools": [{"type": "function", "function": MOVE["function"] | {"strict": True}}, STOP]
}
NUMBER = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}}}


def call(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


MOVED, STOPPED = call("move", '{"at": {"x": 1}}'), call("stop", "{}")
CASES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    # the request, what it lets through, what not
    "required": (
        REQUIRED,
        [MOVED, STOPPED, f"{MOVED}\n{STOPPED}", call("stop", '{"why": [1]}')],
        ["ok", "", f"ok {MOVED}", call("fly", "{}"), call("move", "{}"), call("move", '{"at": {"x": "1"}}')],
    ),
    "one call at a time": (REQUIRED | {"parallel_tool_calls": False}, [MOVED], [f"{MOVED}\n{STOPPED}"]),
    "one tool": (REQUIRED | {"tool_choice": ONE}, [MOVED], [STOPPED, f"{MOVED}\n{MOVED}"]),
    "strict": (
        STRICT,
        ["ok", "", "a < b <tool", MOVED, f"ok {MOVED}", f"{MOVED}\n{STOPPED} and so on"],
        ["<tool_call>\nmove()\n</tool_call>", call("fly", "{}"), call("move", "{}")],
    ),
    "strict, one call at a time": (
        STRICT | {"parallel_tool_calls": False},
        ["ok", MOVED],
        [call("move", "{}")],
    ),
    "a form, or calls": (
        REQUIRED | {"tool_choice": "auto", "response_format": NUMBER},
        ["7", MOVED],
        ["seven"],
    ),
    "a form alone": (REQUIRED | {"tool_choice": "none", "response_format": NUMBER}, ["7"], [MOVED]),
}


EDIT_SCHEMA = {
    "type": "object",
    "properties": {
        "file": {"type": "string"},
        "line": {"type": "integer"},
        "mode": {"enum": ["add", "cut"]},
        "at": {"$ref": "#/$defs/Point"},
    },
    "required": ["file", "line"],
    "$defs": {"Point": POINT},
}
EDIT = {"type": "function", "function": {"name": "edit", "parameters": EDIT_SCHEMA}}
EDITS: dict[str, Any] = {"tools": [EDIT, STOP], "tool_choice": "required"}
STRICT_EDITS: dict[str, Any] = {
    "tools": [{"type": "function", "function": EDIT["function"] | {"strict": True}}]
}


def tagged(name: str, **values: str) -> str:
    told = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
    return f"<tool_call>\n<function={name}>\n{told}</function>\n</tool_call>"


EDITED, HALTED = tagged("edit", file="a\n < b", line="3"), tagged("stop")
TAGGED: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "required": (
        EDITS,
        [
            EDITED,
            HALTED,
            f"{EDITED}\n{HALTED}",
            tagged("edit", file="", line="-1", mode="cut", at='{"x": 1}'),
            tagged("stop", why="so", when="now\n"),
        ],
        [
            "ok",
            tagged("fly"),
            tagged("edit", file="a"),
            tagged("edit", file="a", line="three"),
            tagged("edit", file="a", line="3", mode="keep"),
            tagged("edit", file="a", line="3", at='{"x": "1"}'),
            tagged("edit", file="a <function=b> <parameter=c>", line="3"),
            tagged("edit", line="3", file="a"),
            call("edit", '{"file": "a", "line": 3}'),
        ],
    ),
    "one call at a time": (EDITS | {"parallel_tool_calls": False}, [EDITED], [f"{EDITED}\n{HALTED}"]),
    "strict": (
        STRICT_EDITS,
        ["ok", "", "a < b <tool", EDITED, f"ok {EDITED}", f"{EDITED}\n{EDITED} and so on"],
        [HALTED, tagged("edit", file="a"), EDITED.removeprefix("<tool_call>\n")],
    ),
    "a form, or calls": (
        EDITS | {"tool_choice": "auto", "response_format": NUMBER},
        ["7", EDITED],
        ["seven"],
    ),
}


@pytest.fixture(scope="module", params=["letters", "a token of its own"])
def tokens(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Text, Grammars]:
    """Qwen's vocabulary has tokens for both tags, which are text like any other; the demo model's has not."""
    directory, vocab = demo_path(), Checkpoint.open(demo_path()).config.vocab
    if request.param != "letters":
        directory = tmp_path_factory.mktemp("tags")
        for file in ("tokenizer_config.json", "special_tokens_map.json", "config.json"):
            shutil.copy(demo_path() / file, directory)
        vocab = with_tags(directory)
    text = Text.load(directory)
    assert text.decode(text.encode(MOVED, add_special=False)) == MOVED
    return text, Grammars(directory, vocab, text.eos_token_ids)


def with_tags(directory: Path) -> int:
    """The size of the vocabulary."""
    tokenizer = Tokenizer.from_file(str(demo_path() / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken(tag, special=False) for tag in ("<tool_call>", "</tool_call>")])
    tokenizer.save(str(directory / "tokenizer.json"))
    return tokenizer.get_vocab_size(with_added_tokens=True)


@pytest.mark.parametrize(
    ("form", "case"),
    [("json", case) for case in CASES.values()] + [("tagged", case) for case in TAGGED.values()],
    ids=[*CASES, *(f"tagged: {name}" for name in TAGGED)],
)
async def test_what_an_answer_may_be(
    tokens: tuple[Text, Grammars],
    form: str,
    case: tuple[dict[str, Any], list[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Text, "call_form", form)
    extra, good, bad = case
    body = {"messages": [{"role": "user", "content": "hi"}], **extra}
    grammar = await chat_grammar_of(ChatRequest.model_validate(body), tokens[0])
    for text in good:
        assert lets_through(tokens, grammar, text), text
    for text in bad:
        assert not lets_through(tokens, grammar, text), text


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": "object", "properties": 5, "required": 5},
        {"type": "object", "properties": {"a": {"type": "string", "enum": 5}}, "required": 5},
        {"type": "object", "properties": {"a": 5}},
        {"type": "object", "properties": {"a": {"enum": []}}, "required": ["a"]},
    ],
)
@pytest.mark.parametrize("form", ["json", "tagged"])
async def test_a_schema_that_is_none_is_refused_or_taken_for_any(
    tokens: tuple[Text, Grammars], form: str, parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Text, "call_form", form)
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    body = {"messages": [{"role": "user", "content": "hi"}], "tools": tools, "tool_choice": "required"}
    with suppress(ApiError):
        assert await chat_grammar_of(ChatRequest.model_validate(body), tokens[0])


async def test_a_parameter_that_cannot_be_written_in_tags_is_refused(
    tokens: tuple[Text, Grammars], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Text, "call_form", "tagged")
    parameters = {"type": "object", "properties": {"a>b": {"type": "integer"}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    body = {"messages": [{"role": "user", "content": "hi"}], "tools": tools, "tool_choice": "required"}
    with pytest.raises(ApiError, match="a>b"):
        await chat_grammar_of(ChatRequest.model_validate(body), tokens[0])


async def test_without_a_wish_an_answer_is_free(tokens: tuple[Text, Grammars]) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "tools": [MOVE]}
    assert not await chat_grammar_of(ChatRequest.model_validate(body), tokens[0])


def lets_through(tokens: tuple[Text, Grammars], grammar: str, said: str) -> bool:
    text, grammars = tokens
    try:
        guide = grammars.guide(grammar, text.encode(said, add_special=False))
        return bool(guide.allowed()[list(text.eos_token_ids)].any())
    except GrammarError:
        return False
