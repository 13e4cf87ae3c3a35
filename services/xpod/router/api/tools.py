"""The functions that a model may call: what clients say of them, what the model is told, what calls have to be like.

Knows: OpenAI's `tools`, `tool_choice` and `parallel_tool_calls`, and that calls are written as Hermes and Qwen models
write them, as JSON between tags. Does not know: how calls are found in an answer (see `tool_calls`).
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from xpod.router.api.errors import bad_request
from xpod.router.api.grammar import Guided, Schema, TextFormat, grammar_of, made
from xpod.router.api.strict import Inconsistent, JsonObject, Several, Strict, Utf8
from xpod.router.api.text_protocol import Text
from xpod.router.api.tool_calls import CLOSE, OPEN
from xpod_model.grammar import COMPACT, of_lark

FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
SHARED = ("$defs", "definitions")
"""Where schemas keep what they refer to, from their root."""


class Function(Strict):
    """`parameters` is the JSON schema of its arguments, an object; without one, any object will do."""

    name: FunctionName
    description: Utf8 | None = None
    parameters: JsonObject | None = None
    """The JSON schema of its arguments, an object."""
    strict: bool | None = None


class Tool(Strict):
    """A function that may be called."""

    type: Literal["function"]
    function: Function
    """The function."""


class FunctionOfName(Strict):
    """A function, named."""

    name: FunctionName


class NamedTool(Strict):
    """The tool that has to be called."""

    type: Literal["function"]
    function: FunctionOfName


class Tools(Guided):
    """The parameters of requests that offer tools."""

    tools: Several[Tool] = []
    """Functions that the model may call; for models whose chat template knows of them."""
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    """Whether it may (auto), has to (required, or one by name), or must not (none)."""
    parallel_tool_calls: bool = True
    """May it make several calls in one answer?"""

    @model_validator(mode="after")
    def _consistent(self) -> Tools:
        names = [tool.function.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise Inconsistent("tools", "two have the same name")
        if self.must_call and not self.tools:
            raise Inconsistent("tool_choice", "there are no tools to choose from")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise Inconsistent("tool_choice", f"there is no tool {self.tool_choice.function.name!r}")
        return self

    @property
    def must_call(self) -> bool:
        """Is the answer to be a call, whatever the model would rather say?"""
        return self.tool_choice == "required" or isinstance(self.tool_choice, NamedTool)

    @property
    def offered(self) -> list[Function]:
        """What may be called."""
        if self.tool_choice == "none":
            return []
        functions = [tool.function for tool in self.tools]
        if isinstance(self.tool_choice, NamedTool):
            return [each for each in functions if each.name == self.tool_choice.function.name]
        return functions


class CallGrammar:
    """The grammars of answers with calls of `tools`, for a tokenizer that has the tags as `tokens`, or has not."""

    def __init__(self, tools: Tools, tokens: Container[str]) -> None:
        self._functions = tools.offered
        self._several = tools.parallel_tool_calls and not isinstance(tools.tool_choice, NamedTool)
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
        return self._made(f"start: {more} last", "last: TEXT", r"TEXT: /(.|\n)*/", *begin, rest)

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
            f"{name}: %json {_compact(_call_schema(function))}"
            for name, function in zip(names, self._functions, strict=True)
        ]
        return of_lark("\n".join([*rules, "body: " + " | ".join(names), *bodies]))


def for_template(functions: Iterable[Function]) -> list[dict[str, Any]] | None:
    """Functions that may be called, as chat templates know them; None: there are none."""
    told = [each.model_dump(exclude_none=True, exclude={"strict"}) for each in functions]
    return [{"type": "function", "function": each} for each in told] or None


async def chat_grammar_of(request: Tools, text: Text) -> str:
    """The grammar of a chat's answer; empty where it may be anything. Raises ApiError."""
    form = None if isinstance(request.response_format, TextFormat) else request.response_format
    if not request.offered:
        return await grammar_of(request)
    if request.structured_outputs is not None:
        raise bad_request("structured_outputs and tools exclude each other", "structured_outputs")
    grammar = CallGrammar(request, text.added_tokens)
    if request.must_call:
        return await made("tools", grammar.of_calls, request)
    if form is not None:
        return await made("tools", partial(grammar.of_answer, form.schema_wanted), request)
    if any(each.strict for each in request.offered):
        return await made("tools", grammar.of_text, request)
    return ""


def _call_schema(function: Function) -> dict[str, Any]:
    """Of what stands between the tags. References in the function's schema begin at the root, another one now."""
    arguments = {"type": "object"} if function.parameters is None else dict(function.parameters)
    shared = {name: arguments.pop(name) for name in SHARED if name in arguments}
    return {
        **shared,
        "type": "object",
        "properties": {"name": {"const": function.name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _compact(schema: Schema) -> str:
    """The schema as text, with the wish that JSON be written as json.dumps does."""
    if isinstance(schema, bool):
        return json.dumps(schema)
    return json.dumps({**schema, "x-guidance": COMPACT})
