"""What answers look like on each endpoint: bodies and chunks.

Knows: OpenAI's objects, and xpod's additions (`token_ids` in a choice, `xpod` beside `usage`).
Does not know: how an answer is sent, or when.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

from xpod.router.api.call_reader import CallDelta
from xpod.router.api.choice import Piece
from xpod.router.api.generation import Generation
from xpod.router.api.logprobs import chat_logprobs, completion_logprobs, prompt_logprobs
from xpod.router.api.prompts import Prompt
from xpod.router.api.request_trace import request_trace
from xpod.router.api.requests import ChatRequest, CompletionRequest, GenerationRequest
from xpod.router.api.text_protocol import Text

Json = dict[str, Any]


class Reply(Protocol):
    """The choices of one endpoint; `kind` and `chunk_kind` name the objects, `prefix` begins the id."""

    kind: str
    chunk_kind: str
    prefix: str

    def opening(self, choice: int) -> Json | None:
        """A choice to stream before the first token, if there is one."""

    def delta(self, piece: Piece) -> Json:
        """The choice of one chunk."""

    def whole(self, pieces: Sequence[Piece]) -> Json:
        """The choice of an answer that is not streamed."""


class ChatReply:
    """/v1/chat/completions."""

    kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"
    prefix = "chatcmpl"

    def __init__(self, request: ChatRequest, text: Text) -> None:
        self._request = request
        self._text = text

    def opening(self, choice: int) -> Json:
        delta = {"role": "assistant", "content": ""}
        empty = {"index": choice, "delta": delta, "logprobs": None, "finish_reason": None}
        return empty | _ids(self._request, [])

    def delta(self, piece: Piece) -> Json:
        delta: Json = {"content": piece.text} if piece.text or not (piece.finish or piece.calls) else {}
        if piece.calls:
            delta["tool_calls"] = [_call_delta(call) for call in piece.calls]
        return {"index": piece.choice, "delta": delta} | self._ending([piece])

    def whole(self, pieces: Sequence[Piece]) -> Json:
        content = "".join(piece.text for piece in pieces)
        message: Json = {"role": "assistant", "content": content, "refusal": None}
        if pieces[-1].called:
            message |= {"content": content if content.strip() else None, "tool_calls": _calls(pieces)}
        return {"index": pieces[0].choice, "message": message} | self._ending(pieces)

    def _ending(self, pieces: Sequence[Piece]) -> Json:
        logprobs = chat_logprobs(self._text, pieces) if self._request.logprobs else None
        last = pieces[-1]
        finish = "tool_calls" if last.called and last.finish == "stop" else last.finish or None
        return {"logprobs": logprobs, "finish_reason": finish} | _ids(self._request, pieces)


def _call_delta(call: CallDelta) -> Json:
    if not call.id:
        return {"index": call.index, "function": {"arguments": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments}
    return {"index": call.index, "id": call.id, "type": "function", "function": function}


def _calls(pieces: Sequence[Piece]) -> list[Json]:
    """The calls of a whole answer."""
    found: list[Json] = []
    for call in (call for piece in pieces for call in piece.calls):
        if call.id:
            function = {"name": call.name, "arguments": call.arguments}
            found.append({"id": call.id, "type": "function", "function": function})
        else:
            found[call.index]["function"]["arguments"] += call.arguments
    return found


class CompletionReply:
    """/v1/completions; the echo of prompt i // n goes before the text of choice i."""

    kind = "text_completion"
    chunk_kind = "text_completion"
    prefix = "cmpl"

    def __init__(self, request: CompletionRequest, text: Text, prompts: Sequence[Prompt]) -> None:
        self._request = request
        self._text = text
        self._prompts = prompts

    def _prompt(self, choice: int) -> Prompt:
        return self._prompts[choice // self._request.n]

    def opening(self, choice: int) -> Json | None:
        prompt = self._prompt(choice)
        if not prompt.echo:
            return None
        logprobs = None if self._request.logprobs is None else prompt_logprobs(self._text, prompt)
        echo = {"index": choice, "text": prompt.echo, "logprobs": logprobs, "finish_reason": None}
        return echo | _ids(self._request, [])

    def delta(self, piece: Piece) -> Json:
        return self._choice(piece.text, [piece])

    def whole(self, pieces: Sequence[Piece]) -> Json:
        prompt = self._prompt(pieces[0].choice)
        choice = self._choice(prompt.echo + "".join(piece.text for piece in pieces), pieces)
        if prompt.echo and self._request.logprobs is not None:
            before = prompt_logprobs(self._text, prompt)
            choice["logprobs"] = {name: before[name] + after for name, after in choice["logprobs"].items()}
        return choice

    def _choice(self, text: str, pieces: Sequence[Piece]) -> Json:
        index = pieces[0].choice
        logprobs = None
        if self._request.logprobs is not None:
            logprobs = completion_logprobs(self._text, pieces, len(self._prompt(index).echo))
        finish = pieces[-1].finish or None
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish} | _ids(
            self._request, pieces
        )


def _ids(request: GenerationRequest, pieces: Sequence[Piece]) -> Json:
    return {"token_ids": [piece.output.token for piece in pieces]} if request.return_token_ids else {}


class Envelope:
    """The object around the choices: the same id, time and model in every chunk."""

    def __init__(self, reply: Reply, generation: Generation, model: str) -> None:
        self._reply = reply
        self._generation = generation
        self._head = {
            "id": f"{reply.prefix}-{generation.choices[0].session.id}",
            "created": int(time.time()),
            "model": model,
        }
        request_trace().named(str(self._head["id"]))

    def chunk(self, choices: list[Json]) -> Json:
        return self._head | {"object": self._reply.chunk_kind, "choices": choices}

    def body(self, choices: list[Json]) -> Json:
        return self._head | {"object": self._reply.kind, "choices": choices} | self.usage() | self.extension()

    def usage(self) -> Json:
        return {"usage": self._generation.usage().body()}

    def extension(self) -> Json:
        return {"xpod": self._generation.extension()}
