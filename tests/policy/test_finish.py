"""When a generation ends by itself."""

from __future__ import annotations

from typing import Any

import pytest

from xpod_policy.finish import finish_reason

EOS, STOP, WORD = 2, 7, 5


LIMITS: dict[str, Any] = {
    "max_tokens": 10,
    "min_tokens": 0,
    "ignore_eos": False,
    "eos": {EOS, 3},
    "stops": [STOP],
}


@pytest.mark.parametrize(
    ("token", "index", "limits", "reason"),
    [
        (WORD, 0, {}, ""),
        (WORD, 8, {}, ""),
        (WORD, 9, {}, "length"),
        (WORD, 0, {"max_tokens": 1}, "length"),
        (EOS, 0, {}, "stop"),
        (3, 0, {}, "stop"),
        (STOP, 0, {}, "stop"),
        (EOS, 9, {}, "stop"),
        (EOS, 3, {"ignore_eos": True}, ""),
        (EOS, 9, {"ignore_eos": True}, "length"),
        (STOP, 3, {"ignore_eos": True}, "stop"),
        (EOS, 3, {"min_tokens": 4}, ""),
        (STOP, 3, {"min_tokens": 4}, ""),
        (EOS, 4, {"min_tokens": 4}, "stop"),
        (STOP, 4, {"min_tokens": 4, "ignore_eos": True}, "stop"),
        (EOS, 9, {"min_tokens": 20}, "length"),
        (STOP, 9, {"min_tokens": 20}, "length"),
    ],
)
def test_table(token: int, index: int, limits: dict[str, Any], reason: str) -> None:
    assert finish_reason(token, index, **{**LIMITS, **limits}) == reason
