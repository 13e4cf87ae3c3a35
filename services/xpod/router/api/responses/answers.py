"""What a response and its events look like, for /openapi.json: nothing is made or checked with these.

Knows: the fields of every answer of /v1/responses. Does not know: how they come about (see `body` and `events`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, RootModel

from xpod.router.api.answers import Answer, ChosenLogprob

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]
Json = dict[str, Any]


class OutputText(Answer):
    type: Literal["output_text"]
    text: str
    annotations: list[Json]
    """Always empty."""
    logprobs: list[ChosenLogprob]
    """With `include`."""


class OutputMessage(Answer):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: ItemStatus
    content: list[OutputText]


class OutputCall(Answer):
    id: str
    type: Literal["function_call"]
    call_id: str
    """What came of the call is told under this id."""
    name: str
    arguments: str
    """The text of a JSON object."""
    status: ItemStatus


OutputItem = Annotated[OutputMessage | OutputCall, Field(discriminator="type")]


class InputTokens(Answer):
    cached_tokens: int
    """Of the prompt's tokens, those whose KV was found in a cache."""
    cache_write_tokens: Literal[0]


class OutputTokens(Answer):
    reasoning_tokens: Literal[0]


class ResponseUsage(Answer):
    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    output_tokens_details: OutputTokens
    total_tokens: int


class ResponseError(Answer):
    code: str
    message: str


class Incomplete(Answer):
    reason: Literal["max_output_tokens"]


class Reasoning(Answer):
    effort: None
    summary: None


class TextAsked(Answer):
    format: Json


class ToolTold(Answer):
    type: Literal["function"]
    name: str
    description: str | None
    parameters: Json | None
    strict: bool


class ChoiceTold(Answer):
    type: Literal["function"]
    name: str


class ResponseExtension(Answer):
    """What only xpod says."""

    session: str
    """The id of the generation: the logs know it."""
    seed: int
    """With it, the same request gives the same answer."""
    token_ids: list[int] | None = None
    """With return_token_ids, once it has ended."""


class ResponseBody(Answer):
    """A response as it is now; most of it repeats the request."""

    id: str
    object: Literal["response"]
    created_at: int
    """Unix time."""
    status: Status
    completed_at: int | None
    error: ResponseError | None
    incomplete_details: Incomplete | None
    output: list[OutputItem]
    usage: ResponseUsage | None
    """Once it is completed or incomplete."""
    background: bool
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: None
    metadata: dict[str, str]
    model: str
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: Reasoning
    safety_identifier: str | None
    service_tier: Literal["default"]
    store: bool
    temperature: float
    text: TextAsked
    tool_choice: Literal["none", "auto", "required"] | ChoiceTold
    tools: list[ToolTold]
    top_logprobs: int
    top_p: float
    truncation: Literal["auto", "disabled"]
    user: str | None
    xpod: ResponseExtension


class Deleted(Answer):
    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputItems(Answer):
    object: Literal["list"]
    data: list[Json]
    """Messages, calls and what came of calls, as they were said, each with an `id`."""
    first_id: str | None = None
    last_id: str | None = None
    """No ids: the page is empty."""
    has_more: bool


class Event(Answer):
    sequence_number: int
    """From 0 on; the same for whoever reads the response, and whenever."""


class StateEvent(Event):
    type: Literal[
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
        "response.cancelled",
    ]
    response: ResponseBody


class ItemEvent(Event):
    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: int
    item: OutputItem


class Within(Event):
    item_id: str
    output_index: int


class PartEvent(Within):
    type: Literal["response.content_part.added", "response.content_part.done"]
    content_index: Literal[0]
    part: OutputText


class TextDelta(Within):
    type: Literal["response.output_text.delta"]
    content_index: Literal[0]
    delta: str
    logprobs: list[ChosenLogprob]
    token_ids: list[int] | None = None
    """With return_token_ids: all tokens since the last event with a delta."""


class TextDone(Within):
    type: Literal["response.output_text.done"]
    content_index: Literal[0]
    text: str
    logprobs: list[ChosenLogprob]


class ArgumentsDelta(Within):
    type: Literal["response.function_call_arguments.delta"]
    delta: str
    token_ids: list[int] | None = None
    """As with words."""


class ArgumentsDone(Within):
    type: Literal["response.function_call_arguments.done"]
    name: str
    arguments: str


class ErrorEvent(Event):
    """The last one where the response could not be told to its end."""

    type: Literal["error"]
    message: str
    param: str | None
    code: str | None


class ResponseEvent(
    RootModel[
        Annotated[
            StateEvent
            | ItemEvent
            | PartEvent
            | TextDelta
            | TextDone
            | ArgumentsDelta
            | ArgumentsDone
            | ErrorEvent,
            Field(discriminator="type"),
        ]
    ]
):
    """One event of a response."""
