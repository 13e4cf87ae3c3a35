"""Memories of several members: what can be made of them."""

from __future__ import annotations

import pytest

from xpod_policy.histories import put_together
from xpod_policy.session import Token

T = [Token(index, 100 + index, -0.5) for index in range(5)]
ID = [Token(index, 100 + index, None) for index in range(5)]
CASES: dict[str, tuple[list[list[Token]], int, tuple[list[Token], int]]] = {
    "nobody knows anything": ([], 0, ([], 0)),
    "one knows all": ([T], 0, (T, 5)),
    "overlapping": ([T[:3], T[2:4]], 0, (T[:4], 4)),
    "in any order": ([T[2:4], T[:3]], 0, (T[:4], 4)),
    "a hole": ([T[:1], T[2:]], 0, (T[:1], 5)),
    "logprobs win over ids": ([ID, T[:2], ID], 2, ([*T[:2]], 5)),
    "ids will do for what the client has": ([ID[:3], T[3:]], 3, ([*ID[:3], *T[3:]], 5)),
    "but not for what it has not": ([ID[:3], T[3:]], 2, (ID[:2], 5)),
    "the beginning is missing": ([T[1:]], 0, ([], 5)),
}


@pytest.mark.parametrize(("remembered", "start", "expected"), CASES.values(), ids=list(CASES))
def test_memories_put_together(
    remembered: list[list[Token]], start: int, expected: tuple[list[Token], int]
) -> None:
    assert put_together(remembered, start) == expected
