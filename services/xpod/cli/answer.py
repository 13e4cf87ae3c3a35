"""One completion, put together from the chunks of a stream, or of several streams.

Knows: the chunks of both completion endpoints, and that the same request with the same seed gives the same
tokens: a stream that broke is asked for again, and what came already is passed over.
Does not know: HTTP, clocks (it is told the time in seconds), or terminals.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from xpod.cli.errors import REFUSED, CliError, StreamFailed


@dataclass(slots=True)
class Answer:
    """`add` every chunk; `restart` before the chunks of another stream of the same request."""

    started: float
    id: str = ""
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    recoveries: int = 0
    resumed: int = 0
    place: str = ""
    """The id of the last event, from which any router can go on; empty where events have none."""
    arrivals: list[float] = field(default_factory=list)
    """When each chunk with something new came."""
    _text_seen: int = 0
    _tokens_seen: int = 0
    _logprobs_seen: int = 0

    def restart(self) -> None:
        """The same request begins again from its first token."""
        self.resumed += 1
        self._text_seen = self._tokens_seen = self._logprobs_seen = 0

    def add(self, chunk: dict[str, Any], now: float) -> str:
        """Takes a chunk; returns the text in it that is new."""
        if chunk.get("error"):
            raise _failure(chunk["error"])
        self.id = self.id or str(chunk.get("id") or "")
        if chunk.get("usage"):
            self.usage = chunk["usage"]
        if isinstance(chunk.get("xpod"), dict):
            self.recoveries = int(chunk["xpod"].get("recoveries", 0))
        return "".join(self._add_choice(choice, now) for choice in chunk.get("choices") or [])

    @property
    def complete(self) -> bool:
        return bool(self.finish_reason)

    def _add_choice(self, choice: dict[str, Any], now: float) -> str:
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        known = len(self.tokens)
        self._add_tokens(choice.get("token_ids") or [])
        self._add_logprobs(choice.get("logprobs"))
        fresh = self._add_text(_text_of(choice))
        if fresh or len(self.tokens) > known:
            self.arrivals.append(now)
        return fresh

    def _add_text(self, text: str) -> str:
        end = self._text_seen + len(text)
        expected = self.text[self._text_seen : end]
        if not text.startswith(expected):
            raise CliError(f"the answer changed when it was asked for again: {expected!r} became {text!r}")
        self._text_seen = end
        fresh = text[len(expected) :]
        self.text += fresh
        return fresh

    def _add_tokens(self, tokens: list[int]) -> None:
        end = self._tokens_seen + len(tokens)
        expected = self.tokens[self._tokens_seen : end]
        if tokens[: len(expected)] != expected:
            raise CliError(
                f"the answer changed when it was asked for again: tokens {expected} became {tokens}"
            )
        self._tokens_seen = end
        self.tokens += tokens[len(expected) :]

    def _add_logprobs(self, logprobs: object) -> None:
        values = _logprobs_of(logprobs)
        end = self._logprobs_seen + len(values)
        self.logprobs += values[max(0, len(self.logprobs) - self._logprobs_seen) :]
        self._logprobs_seen = end

    def as_json(self, now: float) -> dict[str, Any]:
        """What `xpod run --json` prints; `now` is when the stream ended."""
        details = self.usage.get("prompt_tokens_details") or {}
        return {
            "id": self.id,
            "text": self.text,
            "tokens": self.tokens,
            "logprobs": self.logprobs,
            "finish_reason": self.finish_reason,
            "usage": {
                "prompt_tokens": self.usage.get("prompt_tokens", 0),
                "completion_tokens": self.usage.get("completion_tokens", len(self.tokens)),
                "cached_tokens": details.get("cached_tokens", 0),
            },
            "timing": self.timing(now),
            "recoveries": self.recoveries + self.resumed,
        }

    def timing(self, now: float) -> dict[str, float]:
        """Milliseconds as the client saw them: to the first token, per token after it, the longest gap, in all."""
        times = self.arrivals or [now]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        rest = max(1, len(self.tokens) - 1)
        return {
            "ttft_ms": _ms(times[0] - self.started),
            "tpot_ms": _ms((times[-1] - times[0]) / rest),
            "max_gap_ms": _ms(max(gaps, default=0.0)),
            "total_ms": _ms(now - self.started),
        }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _text_of(choice: dict[str, Any]) -> str:
    if "delta" in choice:
        return str((choice["delta"] or {}).get("content") or "")
    return str(choice.get("text") or "")


def _logprobs_of(logprobs: object) -> list[float]:
    """The chosen tokens' logprobs, in the form of either endpoint."""
    if not isinstance(logprobs, dict):
        return []
    if logprobs.get("token_logprobs") is not None:
        return list(logprobs["token_logprobs"])
    return [entry["logprob"] for entry in logprobs.get("content") or []]


def _failure(error: object) -> CliError:
    """What was wrong with the request stays wrong; what failed in the pod may go better the next time."""
    if not isinstance(error, dict):
        return StreamFailed(str(error), REFUSED)
    message = str(error.get("message") or error)
    wrong = error.get("type") == "invalid_request_error"
    return CliError(message, REFUSED) if wrong else StreamFailed(message, REFUSED)
