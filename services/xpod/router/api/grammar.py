"""What an answer has to be like: JSON, JSON of a schema, a regular expression, one of some texts, a grammar.

Knows: OpenAI's `response_format`, vLLM's `structured_outputs`, and what excludes them.
Does not know: how tokens are held to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from xpod.router.api.errors import bad_request
from xpod.router.api.strict import JsonObject, Several, Strict, Utf8
from xpod_model.errors import GrammarError
from xpod_model.grammar import of_choice, of_json, of_lark, of_regex

Schema = JsonObject | bool
CODE = "bad_grammar"
ANY_OBJECT: Schema = {"type": "object"}


class TextFormat(Strict):
    """No format."""

    type: Literal["text"]
    """No format."""


class JsonObjectFormat(Strict):
    """Any JSON object."""

    type: Literal["json_object"]
    """Any JSON object."""

    @property
    def schema_wanted(self) -> Schema:
        return ANY_OBJECT

    def grammar(self) -> str:
        return of_json(self.schema_wanted)


class JsonSchema(Strict):
    """`strict` is how it always is here; `name` and `description` are for the client's own use."""

    name: Utf8
    """For the client's own use."""
    description: Utf8 | None = None
    """For the client's own use."""
    schema_: Annotated[Schema, Field(alias="schema")] = ANY_OBJECT
    """The JSON schema."""
    strict: bool | None = None
    """The schema always holds."""


class JsonSchemaFormat(Strict):
    """JSON of a schema."""

    type: Literal["json_schema"]
    """JSON of a schema."""
    json_schema: JsonSchema
    """Which one."""

    @property
    def schema_wanted(self) -> Schema:
        return self.json_schema.schema_

    def grammar(self) -> str:
        return of_json(self.schema_wanted)


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class StructuredOutputs(Strict):
    """One of these: vLLM's words for more than OpenAI's API has."""

    json_: Annotated[Schema | None, Field(alias="json")] = None
    """A JSON schema."""
    json_object: bool | None = None
    """Any JSON object."""
    regex: Utf8 | None = None
    """A regular expression that all of the answer matches."""
    choice: Annotated[Several[Annotated[Utf8, Field(min_length=1)]], Field(min_length=1)] | None = None
    """The answer is one of these texts."""
    grammar_: Annotated[Utf8 | None, Field(alias="grammar")] = None
    """A grammar in Lark's notation."""

    def grammar(self) -> str:
        """Raises GrammarError: not one of them, or one that makes no sense."""
        ways: list[Callable[[], str]] = []
        if self.json_ is not None:
            ways.append(partial(of_json, self.json_))
        if self.json_object:
            ways.append(partial(of_json, ANY_OBJECT))
        if self.regex is not None:
            ways.append(partial(of_regex, self.regex))
        if self.choice is not None:
            ways.append(partial(of_choice, self.choice))
        if self.grammar_ is not None:
            ways.append(partial(of_lark, self.grammar_))
        if len(ways) != 1:
            raise GrammarError("one of json, json_object, regex, choice and grammar is needed")
        return ways[0]()


class Guided(Strict):
    """The parameters of requests that say what the answer has to be like."""

    response_format: ResponseFormat | None = None
    """What the answer has to be like."""
    structured_outputs: StructuredOutputs | None = None
    """The same in vLLM's words, of which one is given."""
    ignore_eos: bool = False
    """Go on until max_tokens, whatever the model says of an end."""
    min_tokens: Annotated[int, Field(ge=0)] = 0
    """The answer has no end before so many tokens."""


async def grammar_of(request: Guided) -> str:
    """The grammar of the answer; empty where it may be anything. Raises ApiError."""
    form = None if isinstance(request.response_format, TextFormat) else request.response_format
    if form is not None and request.structured_outputs is not None:
        raise bad_request("response_format and structured_outputs exclude each other", "structured_outputs")
    if form is not None:
        return await made("response_format", form.grammar, request)
    if request.structured_outputs is not None:
        return await made("structured_outputs", request.structured_outputs.grammar, request)
    return ""


async def made(name: str, grammar: Callable[[], str], request: Guided) -> str:
    """What `grammar` makes of the parameter of that name. Raises ApiError."""
    for other in ("ignore_eos", "min_tokens"):
        if getattr(request, other):  # a grammar says itself where the answer ends
            raise bad_request(f"{other} and {name} exclude each other", other)
    try:
        return await asyncio.to_thread(grammar)
    except GrammarError as error:
        raise bad_request(f"{name}: {error}", name, CODE) from error
