"""Grammars: what a text has to be like, in the words of llguidance, which does the parsing.

It knows JSON schemas, regular expressions, lists of texts and Lark's notation, and no tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import llguidance

from xpod_model.errors import GrammarError

MOST_BYTES = 1 << 17
"""Of a grammar: it travels with each message that hands a session over."""
LIMITS: dict[str, Any] = {
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_lexer_states": 50_000,
    "max_grammar_size": 100_000,
}
"""llguidance's counts of work: some 20 ms to build a grammar, some 15 ms for a token, and 100 MB for its states."""
MOST_REPETITIONS = 100_000
_REPETITION = re.compile(r"\\.|([()])(?:\{(\d+)(?:,(\d*))?\})?|\{(\d+)(?:,(\d*))?\}")
COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON as json.dumps writes it. Where any whitespace may come, a model may write nothing else."""


def of_json(schema: Mapping[str, Any] | bool) -> str:
    """Values of a JSON schema. Raises GrammarError."""
    try:
        made = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=COMPACT)  # type: ignore[arg-type]
    except ValueError as error:
        raise GrammarError(first_line(str(error))) from error
    return checked(made)


def of_regex(pattern: str) -> str:
    """Texts that match as a whole. Raises GrammarError."""
    return checked(llguidance.LLMatcher.grammar_from_regex(pattern))


def of_choice(texts: Iterable[str]) -> str:
    """One of these texts. Raises GrammarError."""
    return of_lark("start: " + " | ".join(json.dumps(text, ensure_ascii=False) for text in texts))


def of_lark(grammar: str) -> str:
    """A grammar in Lark's notation. Raises GrammarError."""
    return checked(llguidance.LLMatcher.grammar_from_lark(grammar))


def checked(grammar: str) -> str:
    """The grammar, if it makes sense and is not too much work. Raises GrammarError."""
    if len(grammar.encode()) > MOST_BYTES:
        raise GrammarError(f"the grammar is larger than {MOST_BYTES} bytes")
    if repetitions(grammar) > MOST_REPETITIONS:
        raise GrammarError(f"more than {MOST_REPETITIONS} repetitions in one another")
    bad, messages = llguidance.LLMatcher.validate_grammar_with_warnings(grammar, limits=limits())
    if bad:
        raise GrammarError(first_line(messages[0]))
    return grammar


def repetitions(text: str) -> int:
    """How often something is repeated at most by counts in one another, as in (a{10}){20}: 200.

    llguidance writes each of them out when it comes to the first token, and its fuel does not count that.
    """
    inner = [1]
    for found in _REPETITION.finditer(text):
        bracket, least, most, alone, alone_most = found.groups()
        within = 1
        if bracket == "(":
            inner.append(1)
        elif bracket == ")" and len(inner) > 1:
            within = inner.pop()
        count = int((most or least or alone_most or alone or "1")[:10])
        inner[-1] = max(inner[-1], within * count)
    return max(inner)


def limits() -> llguidance.LLParserLimits:
    """Of the work that a grammar may be."""
    return llguidance.LLParserLimits(**LIMITS, verbose_errors=False)


def first_line(message: str) -> str:
    """The first line of it."""
    return message.strip().partition("\n")[0]
