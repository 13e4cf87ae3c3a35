"""What answers look like, for /openapi.json: nothing is made or checked with these (see `replies`).

Knows: the fields of every answer. Does not know: how they come about.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Finish = Literal["stop", "length", "tool_calls"]


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class PromptTokens(Answer):
    cached_tokens: int
    """Of the prompt's tokens, those whose KV was found in a cache."""


class UsageBody(Answer):
    """Counts of tokens; a prompt counts once, however many choices share it."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens


class Extension(Answer):
    """What only xpod says."""

    session: str
    """The id of the first choice's generation: the logs know it."""
    sessions: list[str] | None = None
    """Those of all choices, where there are several."""
    seed: int
    """With it, the same request gives the same answer."""
    recoveries: int
    """How often a worker had to be replaced."""


class TokenLogprob(Answer):
    token: str
    bytes: list[int]
    logprob: float


class ChosenLogprob(TokenLogprob):
    top_logprobs: list[TokenLogprob]


class ChatLogprobs(Answer):
    content: list[ChosenLogprob]
    refusal: None


class CompletionLogprobs(Answer):
    text_offset: list[int]
    token_logprobs: list[float | None]
    """null for the first token of an echoed prompt."""
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class CallBody(Answer):
    name: str
    arguments: str
    """The text of a JSON object."""


class Call(Answer):
    id: str
    type: Literal["function"]
    function: CallBody


class Message(Answer):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[Call] | None = None


class ChatChoice(Answer):
    index: int
    message: Message
    logprobs: ChatLogprobs | None
    finish_reason: Finish
    token_ids: list[int] | None = None
    """With return_token_ids."""


class Head(Answer):
    id: str
    created: int
    """Unix time."""
    model: str


class ChatCompletion(Head):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: UsageBody
    xpod: Extension


class CallPart(Answer):
    name: str | None = None
    arguments: str | None = None


class CallDeltaBody(Answer):
    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: CallPart


class Delta(Answer):
    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[CallDeltaBody] | None = None


class ChatChunkChoice(Answer):
    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: Finish | None
    token_ids: list[int] | None = None
    """With return_token_ids."""


class Chunk(Head):
    usage: UsageBody | None = None
    """With include_usage, of the last chunk, whose `choices` is empty; with continuous_usage_stats, of each."""
    xpod: Extension | None = None
    """Of the last chunk."""


class ChatChunk(Chunk):
    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]


class CompletionChoice(Answer):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Finish | None
    """null: a chunk that is not the last one."""
    token_ids: list[int] | None = None
    """With return_token_ids."""


class Completion(Head):
    object: Literal["text_completion"]
    choices: list[CompletionChoice]
    usage: UsageBody
    xpod: Extension


class CompletionChunk(Chunk):
    object: Literal["text_completion"]
    choices: list[CompletionChoice]


class Model(Answer):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: None
    max_model_len: int
    """Tokens of prompt and answer together."""
    capabilities: dict[str, bool]
    """What it can be asked for."""


class ModelList(Answer):
    object: Literal["list"]
    data: list[Model]


class Tokens(Answer):
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None
    """With return_token_strs."""


class Prompt(Answer):
    prompt: str


class Status(Answer):
    status: str


class Version(Answer):
    version: str


class Load(Answer):
    server_load: int
    """Requests that run or wait."""


class Targets(Answer):
    targets: list[str]
    labels: dict[str, str]


class PodStatus(BaseModel):
    """What `xpod status --json` prints."""

    pod: str
    ready: bool
    members: list[dict[str, Any]]
