"""What a client may ask for at /v1/responses, and in which words.

Knows: the parameters, their types and ranges, and how they are said to the model as a chat. What is known to OpenAI
but not supported, and not at its neutral value, is refused by name. Does not know: what becomes of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from xpod.router.api.errors import ApiError
from xpod.router.api.grammar import (
    ANY_OBJECT,
    JsonObjectFormat,
    Schema,
    StructuredOutputs,
    TextFormat,
)
from xpod.router.api.messages import ChatMessage
from xpod.router.api.refusals import of_validation
from xpod.router.api.requests import ChatRequest, Sampled
from xpod.router.api.responses.items import Item
from xpod.router.api.strict import Inconsistent, JsonObject, Several, Strict, Utf8, few
from xpod.router.api.tools import FunctionName

LOGPROBS = "message.output_text.logprobs"
RESPONSE_ID = r"^resp_[0-9a-z]{1,40}$"
_CHAT_NAMES = {
    "max_tokens": "max_output_tokens",
    "messages": "input",
    "response_format": "text.format",
}
"""What the chat endpoint calls our parameters."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "max_tool_calls": (),
    "n": (1,),
    "reasoning": ({}, {"effort": None}, {"effort": "none"}, {"effort": None, "summary": None}),
    "service_tier": ("auto", "default"),
    "skip_special_tokens": (True,),
    "stream_options": ({}, {"include_obfuscation": False}),
}
_NEUTRAL |= dict.fromkeys(
    (
        "access_programs",
        "context_management",
        "conversation",
        "image",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "moderation",
        "prompt",
        "prompt_cache_options",
        "prompt_cache_retention",
        "response_format",
        "verbosity",
    ),
    (),
)


class JsonSchemaText(Strict):
    """JSON of a schema; `strict` is how it always is here."""

    type: Literal["json_schema"]
    name: Utf8
    description: Utf8 | None = None
    schema_: Annotated[Schema, Field(alias="schema")] = ANY_OBJECT
    strict: bool | None = None

    def chat(self) -> dict[str, Any]:
        schema = self.model_dump(by_alias=True, exclude={"type"}, exclude_none=True)
        return {"type": "json_schema", "json_schema": schema}


class TextOptions(Strict):
    """What the text has to be like."""

    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {"verbosity": ("medium",)}
    format: Annotated[TextFormat | JsonObjectFormat | JsonSchemaText | None, Field(discriminator="type")] = (
        None
    )

    def chat(self) -> dict[str, Any] | None:
        """As the chat endpoint's `response_format`."""
        if isinstance(self.format, JsonSchemaText):
            return self.format.chat()
        return None if self.format is None else self.format.model_dump()

    def body(self) -> dict[str, Any]:
        if self.format is None:
            return {"format": {"type": "text"}}
        return {"format": self.format.model_dump(by_alias=True, exclude_none=True)}


class FunctionTool(Strict):
    """A function that may be called; one that does not say otherwise is `strict`, as in OpenAI's API."""

    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {
        "allowed_callers": (["direct"],),
        "async": (False,),
        "defer_loading": (False,),
        "output_schema": (),
    }
    type: Literal["function"]
    name: FunctionName
    description: Utf8 | None = None
    parameters: JsonObject | None = None
    strict: bool = True

    def chat(self) -> dict[str, Any]:
        return {"type": "function", "function": self.model_dump(exclude={"type"})}


class FunctionChoice(Strict):
    """The function that has to be called."""

    type: Literal["function"]
    name: FunctionName


def _listed(given: Any) -> Any:
    """A text is one message of the user."""
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


MetadataKey = Annotated[Utf8, Field(max_length=64)]
MetadataValue = Annotated[Utf8, Field(max_length=512)]


class ResponsesRequest(Sampled):
    """The body of POST /v1/responses."""

    neutral: ClassVar[dict[str, tuple[Any, ...]]] = _NEUTRAL
    model: Utf8 | None = None
    """A name of /v1/models; without it, the first one."""
    input: Annotated[Several[Item], Field(min_length=1), BeforeValidator(_listed)]
    """What is said: a text of the user, or a list of messages, calls and what came of calls."""
    instructions: Utf8 | None = None
    """A message of the system in front of it all, which the next response does not inherit."""
    stream: bool = False
    """Send the answer as server-sent events as it comes."""
    background: bool = False
    """Go on without the client, who asks for the response later."""
    store: bool | None = None
    """Keep it, so that it can be asked for and gone on from."""
    previous_response_id: Annotated[str, Field(pattern=RESPONSE_ID)] | None = None
    """The response that this one goes on from."""
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16), few(16)] = {}
    """The client's own, told with the response."""
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    """The answer ends after so many tokens: by default what the context holds."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """Logprobs of so many alternatives to each token; needs them in `include`."""
    include: Several[Literal["message.output_text.logprobs"]] = []
    """What the response says besides: logprobs of its tokens."""
    text: TextOptions = TextOptions()
    """What the text has to be like."""
    tools: Several[FunctionTool] = []
    """Functions that the model may call."""
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | None = None
    """Whether it may (auto), has to (required, or one by name), or must not (none)."""
    parallel_tool_calls: bool = True
    """May it make several calls in one answer?"""
    truncation: Literal["auto", "disabled"] = "disabled"
    """auto: what does not fit into the context is left out from the beginning; disabled: it is refused."""
    safety_identifier: Annotated[Utf8, Field(max_length=128)] | None = None
    """Whose request it is, for the client's own use."""
    structured_outputs: StructuredOutputs | None = None
    """What the answer has to be like, in vLLM's words."""
    ignore_eos: bool = False
    """Go on until max_output_tokens, whatever the model says of an end."""
    min_tokens: Annotated[int, Field(ge=0)] = 0
    """The answer has no end before so many tokens."""
    chat_template_kwargs: JsonObject = {}
    """Variables for the chat template."""

    @model_validator(mode="after")
    def _consistent(self) -> ResponsesRequest:
        if self.top_logprobs and not self.logprobs:
            raise Inconsistent("top_logprobs", f"needs include: [{LOGPROBS!r}]")
        if self.background and self.store is False:
            raise Inconsistent("background", "needs store: true")
        return self

    @property
    def logprobs(self) -> bool:
        return LOGPROBS in self.include

    def chat(self, messages: Sequence[ChatMessage]) -> ChatRequest:
        """The request as the chat endpoint would have it, with `instructions` in front. Raises ApiError."""
        turns = (
            [ChatMessage(role="system", content=self.instructions)] if self.instructions is not None else []
        )
        said = {name: getattr(self, name) for name in self.model_fields_set & Sampled.model_fields.keys()}
        body = said | {
            "messages": [*turns, *messages],
            "model": self.model,
            "max_tokens": self.max_output_tokens,
            "logprobs": self.logprobs,
            "top_logprobs": (self.top_logprobs or 0) if self.logprobs else None,
            "response_format": self.text.chat(),
            "structured_outputs": self.structured_outputs,
            "ignore_eos": self.ignore_eos,
            "min_tokens": self.min_tokens,
            "tools": [tool.chat() for tool in self.tools],
            "tool_choice": self._choice(),
            "parallel_tool_calls": self.parallel_tool_calls,
            "chat_template_kwargs": self.chat_template_kwargs,
        }
        try:
            return ChatRequest.model_validate({name: each for name, each in body.items() if each is not None})
        except ValidationError as error:
            found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
            raise in_our_words(of_validation(found)) from error

    def _choice(self) -> str | dict[str, Any] | None:
        if isinstance(self.tool_choice, FunctionChoice):
            return {"type": "function", "function": {"name": self.tool_choice.name}}
        return self.tool_choice


def in_our_words(error: ApiError) -> ApiError:
    """The refusal with our name of the parameter instead of the chat endpoint's."""
    detail = error.body["error"]
    head, dot, rest = (detail["param"] or "").partition(".")
    ours = _CHAT_NAMES.get(head)
    if ours is None:
        return error
    message = (detail["message"] or "").replace(head, ours)
    return ApiError(
        error.status_code,
        message,
        kind=detail["type"] or "",
        param=f"{ours}{dot}{rest}",
        code=detail["code"],
        headers=dict(error.headers or {}) or None,
    )
