"""Pages of a journal: what is written when."""

from __future__ import annotations

import pytest

from xpod_policy.pages import Pages


@pytest.mark.parametrize(
    ("written", "tokens", "due"),
    [
        (0, 0, []),
        (0, 1, [(0, 0, 1)]),
        (1, 1, []),
        (1, 64, [(0, 0, 64)]),
        (64, 65, [(1, 64, 65)]),
        (70, 130, [(1, 64, 128), (2, 128, 130)]),
        (0, 130, [(0, 0, 64), (1, 64, 128), (2, 128, 130)]),
        (70, 60, []),
    ],
)
def test_pages_due(written: int, tokens: int, due: list[tuple[int, int, int]]) -> None:
    assert list(Pages(written).due(tokens)) == due
