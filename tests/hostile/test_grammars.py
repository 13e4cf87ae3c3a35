"""Grammars that are made to cost much: refused, or a little work at every token."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import psutil
import pytest

from xpod_model.demo import demo_path
from xpod_model.errors import GrammarError
from xpod_model.grammar import MOST_REPETITIONS, of_choice, of_json, of_lark, of_regex, repetitions
from xpod_model.guide import Grammars

VOCAB, EOS = 6144, (0, 2)
STEPS = 40
DOUBLING = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(40)}
BOMBS: dict[str, Callable[[], str]] = {
    "counts of counts": lambda: of_regex("((a{1000}){1000}){1000}"),
    "counts of counts in a schema": lambda: of_json({"type": "string", "pattern": "((a{999}){999}){999}"}),
    "counts of counts in a grammar": lambda: of_lark("start: /((a{1000}){1000}){1000}/"),
    "a large count": lambda: of_regex("(a|b|c|.){99999}"),
    "any before each": lambda: of_regex("(.*a){60}b"),
    "perhaps before each": lambda: of_regex("(a?){2000}a{2000}"),
    "brackets": lambda: of_regex("(" * 30_000 + "a" + ")" * 30_000),
    "many words": lambda: of_regex("|".join(f"{i:x}" for i in range(20_000))),
    "a large class": lambda: of_regex(r"[\w\W]{0,30000}x"),
    "brackets of rules": lambda: of_lark("start: " + "(" * 30_000 + '"a"' + ")" * 30_000),
    "a rule of itself": lambda: of_lark('start: start start | "a" | '),
    "rules that double": lambda: of_lark(
        "start: a0\n" + "\n".join(f"a{i}: a{i + 1} a{i + 1}" for i in range(2000)) + '\na2000: "x"'
    ),
    "many choices": lambda: of_choice([f"x{i}" for i in range(12_000)]),
    "a long choice": lambda: of_choice(["x" * 100_000]),
    "items": lambda: of_json({"type": "array", "minItems": 10**9}),
    "characters": lambda: of_json({"type": "string", "minLength": 10**9}),
    "multiples": lambda: of_json({"type": "integer", "multipleOf": 999_999_937}),
    "all of all": lambda: of_json({"$defs": {**DOUBLING, "a40": {}}, "$ref": "#/$defs/a0"}),
    "any of many": lambda: of_json(
        {"allOf": [{"anyOf": [{"properties": {f"p{i}{j}": {}}} for j in range(4)]} for i in range(14)]}
    ),
    "itself": lambda: of_json({"$ref": "#"}),
    "one another": lambda: of_json(
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    ),
    "another host": lambda: of_json({"$ref": "http://127.0.0.1:1/x.json"}),
    "a file": lambda: of_json({"$ref": "file:///etc/passwd"}),
}


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    made = Grammars(demo_path(), VOCAB, EOS)
    made.guide(of_regex("a"))
    return made


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_or_cheap(name: str, grammars: Grammars) -> None:
    before = psutil.Process().memory_info().rss
    began = time.process_time()
    slowest = 0.0
    with suppress(GrammarError):
        guide = grammars.guide(BOMBS[name]())
        draw = random.Random(1)
        for _ in range(STEPS):
            step = time.process_time()
            tokens = [each for each in np.flatnonzero(guide.allowed()) if each not in EOS]
            slowest = max(slowest, time.process_time() - step)
            if not tokens:
                break
            guide.advance(int(draw.choice(tokens)))
    assert slowest < 0.5, "one token holds up all others"
    assert time.process_time() - began < 10
    assert psutil.Process().memory_info().rss - before < 256 << 20


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("abc", 1),
        ("a{3}", 3),
        ("a{3,7}b{5}", 7),
        ("(a{3}b{4}){5}", 20),
        ("((a{2}){3}c){4,}", 24),
        (r"\(a{2}\){3}", 3),
        ("(a){2}|(b{6})", 6),
        (")){9}", 9),
        ("a{99999999999999999999999}", 9_999_999_999),
    ],
)
def test_repetitions(text: str, count: int) -> None:
    assert repetitions(text) == count


def test_what_people_ask_for_is_no_bomb() -> None:
    assert (
        repetitions(of_json({"type": "string", "pattern": "^([a-z]{1,64}[.]){1,32}[a-z]{2,8}$"}))
        < MOST_REPETITIONS
    )
