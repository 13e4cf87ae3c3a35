"""From a request to what makes its tokens.

Knows: what came before, the chat template, that a conversation which is too long may lose its beginning. Does not
know: sessions, or what is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import TypeAdapter

from xpod.router.api import prompts
from xpod.router.api.affinity import affinity_of
from xpod.router.api.context import Api
from xpod.router.api.engine_protocol import Affinity
from xpod.router.api.errors import ApiError
from xpod.router.api.idempotency import Key
from xpod.router.api.messages import ChatMessage
from xpod.router.api.requests import ChatRequest
from xpod.router.api.responses.events import Narrator
from xpod.router.api.responses.items import AnyItem, Item, Json, messages_of, told
from xpod.router.api.responses.record import Record
from xpod.router.api.responses.request import ResponsesRequest, in_our_words
from xpod.router.api.responses.run import Run
from xpod.router.api.sampling import base_seed, check, spec_of, token_budget, with_defaults
from xpod.router.api.text_protocol import Text
from xpod.router.api.tools import chat_grammar_of
from xpod_proto import SamplingSpec

_ITEMS: TypeAdapter[list[AnyItem]] = TypeAdapter(list[Item])
_TOO_LONG = "context_length_exceeded"


@dataclass(frozen=True, slots=True)
class Past:
    """The conversation up to the response that went before."""

    items: Sequence[Json]

    @classmethod
    def of(cls, run: Run, text: Text) -> Past:
        """`run` has ended. Calls that it did not finish, and messages without words, were never said."""
        narrator = Narrator(run.record, text)
        narrator.begin()
        for piece in run.pieces:
            narrator.take(piece)
        if run.end is not None:
            narrator.finish(run.end)
        said = [item for item in narrator.items if _said(item)]
        return cls([*run.record.history, *input_of(run.record), *said])


@dataclass(frozen=True, slots=True)
class Opened:
    """A request that was found valid."""

    prompt: Sequence[int]
    sampling: SamplingSpec
    affinity: Affinity
    model: str
    history: Sequence[Json]


def _said(item: Json) -> bool:
    if item["type"] == "function_call":
        return bool(item["status"] == "completed")
    return any(part["text"] for part in item["content"])


def input_of(record: Record) -> list[Json]:
    """The items of its own input."""
    items = enumerate(record.request.input)
    return [told(item, f"msg_{record.name}_in{number}") for number, item in items]


async def opened(
    api: Api, request: ResponsesRequest, tenant: bytes, key: Key | None, past: Past | None
) -> Opened:
    """What makes the tokens of the answer. Raises ApiError."""
    model = api.served(request.model)
    history = [] if past is None else list(past.items)
    before = _ITEMS.validate_python(history)
    try:
        chat, prompt, budget = await _fitting(api, request, messages_of([*before, *request.input]))
        grammar = await chat_grammar_of(chat, api.text)
    except ApiError as error:
        raise in_our_words(error) from error
    seed = base_seed(key.seed if key is not None and request.seed is None else request.seed)
    sampling = spec_of(with_defaults(chat, api.settings.sampling_defaults), budget, seed)
    return Opened(prompt, replace(sampling, grammar=grammar), affinity_of(chat, tenant), model, history)


async def _fitting(
    api: Api, request: ResponsesRequest, messages: list[ChatMessage]
) -> tuple[ChatRequest, list[int], int]:
    """The chat, its prompt and how many tokens may follow; with `truncation: auto`, as many turns as there is room for.

    Turns are dropped from the beginning, up to one of the user, so that calls and what came of them stay together.
    """
    starts = [0]
    if request.truncation == "auto":
        starts += [at for at, turn in enumerate(messages) if at and turn.role == "user"]
    try:
        return await _made(api, request, messages)
    except ApiError as error:
        if len(starts) == 1 or error.body["error"]["code"] != _TOO_LONG:
            raise
    best = await _made(api, request, messages[starts[-1] :])
    low, high = 1, len(starts) - 1  # the first start from which on there is room for all is among these
    while low < high:
        middle = (low + high) // 2
        try:
            best, high = await _made(api, request, messages[starts[middle] :]), middle
        except ApiError as error:
            if error.body["error"]["code"] != _TOO_LONG:
                raise
            low = middle + 1
    return best


async def _made(
    api: Api, request: ResponsesRequest, messages: list[ChatMessage]
) -> tuple[ChatRequest, list[int], int]:
    chat = request.chat(messages)
    check(chat, api.engine.vocab_size)
    prompt = await prompts.of_chat(chat, api)
    return chat, prompt.ids, token_budget(chat, len(prompt.ids), api.engine)
