"""Pages of a journal: what is written when."""

from __future__ import annotations

import pytest

from xpod_policy.pages import ENOUGH_TOKENS, ROUNDS, Pages


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
def test_pages_that_waited_long_enough(written: int, tokens: int, due: list[tuple[int, int, int]]) -> None:
    assert list(Pages(written, waited=ROUNDS - 1).due(tokens)) == due


def test_a_few_tokens_wait_for_more() -> None:
    pages = Pages()
    assert not list(pages.due(ENOUGH_TOKENS - 1))
    assert list(pages.due(ENOUGH_TOKENS)) == [(0, 0, ENOUGH_TOKENS)]


def test_a_few_tokens_wait_so_many_rounds() -> None:
    pages = Pages()
    rounds = [list(pages.due(3)) for _ in range(ROUNDS)]
    assert rounds == [[]] * (ROUNDS - 1) + [[(0, 0, 3)]]


def test_what_is_written_does_not_wait() -> None:
    pages = Pages()
    for _ in range(ROUNDS):
        list(pages.due(3))
    pages.wrote(3)
    assert not list(pages.due(3))
    assert not list(pages.due(4)), "its rounds begin again"
