"""The functions that a model may call: what clients say of them, what the model is told, what calls have to be like.

Knows: OpenAI's `tools`, `tool_choice` and `parallel_tool_calls`. Does not know: how a model writes calls (see
`call_grammar`), or how they are found in an answer (see `tool_calls`).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from xpod.router.api.call_grammar import CallGrammar
from xpod.router.api.errors import bad_request
from xpod.router.api.grammar import Guided, TextFormat, grammar_of, made
from xpod.router.api.strict import Inconsistent, JsonObject, Several, Strict, Utf8
from xpod.router.api.text_protocol import Text

FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


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

    @property
    def several_calls(self) -> bool:
        """May one answer have more than one?"""
        return self.parallel_tool_calls and not isinstance(self.tool_choice, NamedTool)


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
    grammar = CallGrammar(
        text.call_form, request.offered, several=request.several_calls, tokens=text.added_tokens
    )
    if request.must_call:
        return await made("tools", grammar.of_calls, request)
    if form is not None:
        return await made("tools", partial(grammar.of_answer, form.schema_wanted), request)
    if any(each.strict for each in request.offered):
        return await made("tools", grammar.of_text, request)
    return ""
