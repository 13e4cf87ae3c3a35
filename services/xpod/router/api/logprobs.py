"""Log probabilities in the two forms that OpenAI has.

Knows: how a token that is no text of its own is spelt. Does not know: chunks, choices, or rounding: values keep
every bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from xpod.router.api.choice import Piece
from xpod.router.api.prompts import Prompt
from xpod.router.api.text_protocol import Text

_IMPOSSIBLE = -9999.0  # OpenAI's stand-in for minus infinity, which JSON cannot say


def _number(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else _IMPOSSIBLE


def _chat_token(text: Text, token: int, logprob: float) -> dict[str, Any]:
    raw = text.token_bytes(token)
    return {"token": raw.decode("utf-8", "backslashreplace"), "bytes": list(raw), "logprob": _number(logprob)}


def chat_logprobs(text: Text, pieces: Sequence[Piece]) -> dict[str, Any]:
    """The `logprobs` object of a chat choice or delta."""
    content = []
    for output in (piece.output for piece in pieces):
        top = [_chat_token(text, token, logprob) for token, logprob in output.top]
        content.append(_chat_token(text, output.token, output.logprob) | {"top_logprobs": top})
    return {"content": content, "refusal": None}


def _spelling(text: Text, token: int) -> str:
    raw = text.token_bytes(token)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def prompt_logprobs(text: Text, prompt: Prompt) -> dict[str, list[Any]]:
    """The `logprobs` object of an echo; nothing says how likely the first token is."""
    stream, offsets, length = text.stream(), [], 0
    for token in prompt.ids:
        offsets.append(length)
        length += len(stream.push(token))
    rest = list(zip(prompt.ids[1:], prompt.scores, strict=True))
    tops = [dict([*score.top, (token, score.logprob)]) for token, score in rest]
    return {
        "text_offset": offsets,
        "token_logprobs": [None, *(_number(score.logprob) for _, score in rest)],
        "tokens": [_spelling(text, token) for token in prompt.ids],
        "top_logprobs": [
            None,
            *({_spelling(text, each): _number(lp) for each, lp in top.items()} for top in tops),
        ],
    }


def completion_logprobs(text: Text, pieces: Sequence[Piece], base: int) -> dict[str, Any]:
    """The `logprobs` object of a completion choice; `base` is the length of the text before the first token."""
    outputs = [piece.output for piece in pieces]
    tops = [dict([*output.top, (output.token, output.logprob)]) for output in outputs]
    return {
        "text_offset": [base + piece.offset for piece in pieces],
        "token_logprobs": [_number(output.logprob) for output in outputs],
        "tokens": [_spelling(text, output.token) for output in outputs],
        "top_logprobs": [{_spelling(text, token): _number(lp) for token, lp in top.items()} for top in tops],
    }
