"""From what a client sent to token ids.

Knows: the four forms of a prompt, chat templates, refusals that belong to the prompt.
Does not know: sampling, sessions, or answers.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from xpod.router.api.context import Api
from xpod.router.api.engine_protocol import Score
from xpod.router.api.errors import bad_request
from xpod.router.api.messages import ChatMessage
from xpod.router.api.requests import ChatRequest, CompletionRequest
from xpod.router.api.sampling import check_tokens
from xpod.router.api.text_protocol import Text
from xpod.router.api.tools import for_template
from xpod_model.errors import ModelError

_LONG_TEXT = (
    20_000  # characters; longer ones are tokenised off the event loop, which streams to others meanwhile
)
_TAKEN = frozenset({"messages", "add_generation_prompt", "tools"})


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids, and the text that `echo` gives back.

    `scores` are of each token but the first, where they are wanted, and nothing before the engine has told them.
    """

    ids: list[int]
    echo: str = ""
    scores: list[Score] = field(default_factory=list)


async def encode(text: Text, content: str, *, add_special: bool, param: str) -> list[int]:
    """Tokenise, without holding up the event loop for long. Raises ApiError."""
    try:
        if len(content) < _LONG_TEXT:
            return text.encode(content, add_special=add_special)
        return await asyncio.to_thread(text.encode, content, add_special=add_special)
    except ModelError as error:
        raise bad_request(str(error), param) from error


def check_length(api: Api, length: int, param: str) -> None:
    """Refuse a text that cannot fit into the context, before it is tokenised. Raises ApiError."""
    most = api.text.most_characters(api.engine.max_model_len)
    if length > most:
        context = f"this model's context is {api.engine.max_model_len} tokens"
        raise bad_request(f"{context}; no text of {length} characters fits", param, "context_length_exceeded")


async def of_completion(request: CompletionRequest, api: Api) -> list[Prompt]:
    """One prompt, or several where a list of them was sent."""
    given = request.prompt
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        given = [given]  # type: ignore[assignment]
    if not given:
        raise bad_request("the prompt is empty", "prompt", "empty_prompt")
    return [await _prompt(each, request.echo, api) for each in given]  # type: ignore[arg-type]


async def _prompt(given: str | list[int], echo: bool, api: Api) -> Prompt:
    if isinstance(given, str):
        check_length(api, len(given), "prompt")
        ids = await encode(api.text, given, add_special=True, param="prompt")
        shown = given
    else:
        check_tokens(given, api.engine.vocab_size, "prompt")
        ids = given
        shown = api.text.decode(ids) if echo else ""
    if not ids:
        raise bad_request("the prompt is empty", "prompt", "empty_prompt")
    return Prompt(ids, shown if echo else "")


async def of_chat(request: ChatRequest, api: Api) -> Prompt:
    """The chat template's text, tokenised as it stands."""
    content = await render(
        request.messages, api.text, True, request.chat_template_kwargs, for_template(request.offered)
    )
    check_length(api, len(content), "messages")
    ids = await encode(api.text, content, add_special=False, param="messages")
    if not ids:
        raise bad_request("the chat template made nothing of these messages", "messages", "empty_prompt")
    return Prompt(ids)


async def render(
    messages: list[ChatMessage],
    text: Text,
    generate: bool,
    template_kwargs: dict[str, object],
    tools: list[dict[str, Any]] | None = None,
) -> str:
    """Apply the model's chat template; what it refuses is the client's to mend."""
    if taken := _TAKEN & template_kwargs.keys():
        raise bad_request(f"chat_template_kwargs may not set {min(taken)!r}", "chat_template_kwargs")
    if tools and not text.knows_tools:
        raise bad_request("the model's chat template has no place for tools", "tools", "unsupported_value")
    turns = [message.for_template() for message in messages]
    try:
        return await asyncio.to_thread(
            text.apply_chat_template, turns, tools=tools, add_generation_prompt=generate, **template_kwargs
        )
    except ModelError as error:
        raise bad_request(str(error), "messages", "chat_template") from error
