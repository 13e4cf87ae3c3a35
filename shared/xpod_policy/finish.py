"""When a generation ends by itself. Prefill and decode ask the same function, so that they cannot disagree."""

from __future__ import annotations

from collections.abc import Container


def finish_reason(
    token: int,
    index: int,
    *,
    max_tokens: int,
    min_tokens: int,
    ignore_eos: bool,
    eos: Container[int],
    stops: Container[int],
) -> str:
    """`stop` for an end or stop token at or after `min_tokens`, `length` for the last one allowed, else ``""``.

    `index` counts generated tokens from 0.
    """
    if index >= min_tokens and (token in stops or (not ignore_eos and token in eos)):
        return "stop"
    return "length" if index + 1 >= max_tokens else ""
