"""Grammars hold a text to its form, token by token, from any place in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from xpod_model.checkpoint import Checkpoint
from xpod_model.demo import demo_path
from xpod_model.errors import GrammarError
from xpod_model.grammar import MOST_BYTES, of_choice, of_json, of_lark, of_regex
from xpod_model.guide import Grammars
from xpod_model.text import Text

MOST = 400
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "kind": {"enum": ["expert", "router", None]},
        "sizes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3},
    },
    "required": ["name", "kind", "sizes"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def text() -> Text:
    return Text.load(demo_path())


@pytest.fixture(scope="module")
def grammars(text: Text) -> Grammars:
    return Grammars(demo_path(), Checkpoint.open(demo_path()).config.vocab, text.eos_token_ids)


def drawn(grammars: Grammars, grammar: str, eos: int, seed: int) -> list[int]:
    """Tokens that the grammar allows, any of them with the same chance; the last one ends the text."""
    guide, rng, tokens = grammars.guide(grammar), Random(seed), list[int]()
    while not tokens or tokens[-1] != eos:
        assert len(tokens) < MOST, "the grammar has no end"
        tokens.append(rng.choice(guide.allowed().nonzero()[0].tolist()))
        guide.advance(tokens[-1])
    return tokens


def is_of_schema(said: str) -> None:
    value = json.loads(said)
    assert list(value) == ["name", "kind", "sizes"]
    assert len(value["name"]) <= 12
    assert value["kind"] in {"expert", "router", None}
    assert len(value["sizes"]) <= 3
    assert all(0 <= each <= 99 for each in value["sizes"])


FORMS: dict[str, tuple[str, Callable[[str], object]]] = {
    "schema": (of_json(SCHEMA), is_of_schema),
    "regex": (of_regex(r"[a-f]{3}-\d{2}(x|yz)"), re.compile(r"[a-f]{3}-\d{2}(x|yz)").fullmatch),
    "choice": (of_choice(["yes", 'no "way"', "größer"]), {"yes": 1, 'no "way"': 1, "größer": 1}.__getitem__),
    "lark": (of_lark('start: "<" NUMBER ">"\nNUMBER: /[0-9]{1,4}/'), re.compile(r"<[0-9]{1,4}>").fullmatch),
}


@pytest.mark.parametrize("form", FORMS)
def test_whatever_is_drawn_is_of_the_form(grammars: Grammars, text: Text, form: str) -> None:
    grammar, good = FORMS[form]
    eos = text.eos_token_ids[0]
    said = {text.decode(drawn(grammars, grammar, eos, seed)[:-1]) for seed in range(12)}
    for each in said:
        assert good(each) is not False, each
        assert form in {"schema", "choice"} or good(each), each
    assert len(said) > 1


@pytest.mark.parametrize("form", FORMS)
def test_anybody_goes_on_from_the_tokens_alone(grammars: Grammars, text: Text, form: str) -> None:
    grammar, eos = FORMS[form][0], text.eos_token_ids[0]
    tokens = drawn(grammars, grammar, eos, 3)
    guide = grammars.guide(grammar)
    for place, token in enumerate(tokens):
        assert (guide.allowed() == grammars.guide(grammar, tokens[:place]).allowed()).all(), place
        guide.advance(token)


def test_json_has_no_room_for_endless_space(grammars: Grammars, text: Text) -> None:
    said = text.decode(drawn(grammars, of_json(SCHEMA), text.eos_token_ids[0], 5)[:-1])
    assert said == json.dumps(json.loads(said), ensure_ascii=False)


def test_what_may_not_come_is_refused(grammars: Grammars, text: Text) -> None:
    guide = grammars.guide(of_choice(["yes"]))
    with pytest.raises(GrammarError):
        guide.advance(text.encode("no")[0])


def test_a_text_without_an_end_is_refused() -> None:
    with pytest.raises(GrammarError, match="no token that ends a text"):
        Grammars(demo_path(), 4096, ()).guide(of_choice(["yes"]))


BAD: dict[str, Callable[[], str]] = {
    "a type that there is not": lambda: of_json({"type": "integr"}),
    "a keyword that is not supported": lambda: of_json({"type": "object", "unevaluatedProperties": False}),
    "nothing can be of it": lambda: of_json({"type": "string", "minLength": 3, "maxLength": 2}),
    "an open bracket": lambda: of_regex("(a"),
    "an unknown rule": lambda: of_lark("start: b"),
    "no start": lambda: of_lark('b: "x"'),
    "too large": lambda: of_regex("a" * MOST_BYTES + "b"),
    "nested too deeply": lambda: of_lark("start: " + "(" * 9000 + '"a"' + ")" * 9000),
    "a regex nested too deeply": lambda: of_regex("(" * 9000 + "a" + ")" * 9000),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_grammars_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(GrammarError) as raised:
        BAD[name]()
    assert 0 < len(str(raised.value).splitlines()) <= 1
