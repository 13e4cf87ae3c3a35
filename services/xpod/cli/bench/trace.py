"""One request's course: when what came, and whether it came to its end.

Knows: the chunks of both completion endpoints of any OpenAI-compatible server.
Does not know: HTTP, or clocks (it is told the time in seconds). Pure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

DONE = "[DONE]"


class BadStream(Exception):
    """The stream says, or is, something that makes it a failed request. `kind` is a few words, for a table."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


@dataclass(slots=True)
class Trace:
    """`add` each event's data, then `finish`. A chunk with k token ids counts k tokens, one with text only counts 1."""

    started: float
    arrivals: list[float] = field(default_factory=list)
    """When each chunk with at least one token came."""
    counts: list[int] = field(default_factory=list)
    """How many tokens each of those had."""
    tokens: list[int] = field(default_factory=list)
    """All ids, where the server names them."""
    logprobs: list[float] = field(default_factory=list)
    """One for each token, where /v1/completions was asked for them."""
    ended: float = 0.0
    usage: dict[str, Any] = field(default_factory=dict)
    finish_reason: str = ""
    recoveries: int = 0
    done: bool = False

    def add(self, data: str, now: float) -> None:
        """Raises BadStream for an error in the stream, or for what is no chunk."""
        if self.done:
            return
        self.ended = now
        if data == DONE:
            self.done = True
            return
        chunk = _parse(data)
        if chunk.get("error"):
            raise BadStream("error in stream", _message(chunk["error"]))
        try:
            self._read(chunk, now)
        except (AttributeError, TypeError, ValueError) as error:
            raise BadStream("malformed", f"not a chunk: {data[:80]!r}") from error

    def _read(self, chunk: dict[str, Any], now: float) -> None:
        self.usage = dict(chunk.get("usage") or self.usage)
        self.recoveries = int((chunk.get("xpod") or {}).get("recoveries", self.recoveries))
        tokens = sum(self._take(choice) for choice in chunk.get("choices") or [])
        if tokens:
            self.arrivals.append(now)
            self.counts.append(tokens)

    def finish(self) -> None:
        """The server closed the stream. Raises BadStream where it was not the end of an answer."""
        if not self.finish_reason:
            raise BadStream("cut off", f"the stream ended without a finish after {self.chunk_tokens} tokens")
        if not self.arrivals:
            raise BadStream("empty", "the answer has no token")

    def _take(self, choice: dict[str, Any]) -> int:
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        ids = choice.get("token_ids")
        self.tokens += ids or []
        self.logprobs += (choice.get("logprobs") or {}).get("token_logprobs") or []
        return len(ids) if ids is not None else int(bool(_text_of(choice)))

    @property
    def chunk_tokens(self) -> int:
        return sum(self.counts)

    @property
    def cached_tokens(self) -> int:
        """Of the prompt: those that the server says it did not compute."""
        details = self.usage.get("prompt_tokens_details") or {}
        return int(details.get("cached_tokens") or 0)

    @property
    def output_tokens(self) -> int:
        return int(self.usage.get("completion_tokens") or self.chunk_tokens)

    @property
    def ttft(self) -> float:
        return self.arrivals[0] - self.started

    @property
    def to_last(self) -> float:
        """Until the last token; the stream may end later."""
        return self.arrivals[-1] - self.started

    @property
    def total(self) -> float:
        return self.ended - self.started

    @property
    def gaps(self) -> list[float]:
        """Between one chunk with tokens and the next."""
        return [later - earlier for earlier, later in pairwise(self.arrivals)]

    @property
    def per_token(self) -> float | None:
        """Seconds for each token after the first, however they were grouped into chunks."""
        rest = self.output_tokens - 1
        return (self.arrivals[-1] - self.arrivals[0]) / rest if rest > 0 and len(self.arrivals) > 1 else None


def _parse(data: str) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except ValueError:
        raise BadStream("malformed", f"not JSON: {data[:80]!r}") from None
    if not isinstance(chunk, dict):
        raise BadStream("malformed", f"not an object: {data[:80]!r}")
    return chunk


def _message(error: object) -> str:
    return str(error.get("message") or error) if isinstance(error, dict) else str(error)


def _text_of(choice: dict[str, Any]) -> str:
    """What the client may show; a chat's first chunk has only a role."""
    delta = choice.get("delta") or {}
    return str(choice.get("text") or delta.get("content") or delta.get("reasoning_content") or "")
