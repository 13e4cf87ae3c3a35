"""Conversations: drawn from a seed, and made of what was said."""

from __future__ import annotations

import pytest

from xpod.cli.bench.conversation import Conversation, Shape, conversations
from xpod.cli.errors import CliError

SHAPE = Shape(3, 4, 20, 8, 5, 2, think=0.5)


def test_the_same_seed_says_the_same() -> None:
    assert conversations(SHAPE, 1, 100) == conversations(SHAPE, 1, 100)
    assert conversations(SHAPE, 1, 100) != conversations(SHAPE, 2, 100)


def test_all_begin_alike_and_go_on_differently() -> None:
    held = conversations(SHAPE, 1, 1000)
    assert [[len(said) for said in each.says] for each in held] == [[20, 5, 5, 5]] * 3
    assert len({each.says[0][:8] for each in held}) == 1
    assert len({each.says[0][8:] for each in held}) == 3
    assert len({each.name for each in held}) == 3
    assert all(16 <= token < 1000 for each in held for said in each.says for token in said)


def test_users_think_for_so_long_on_average() -> None:
    held = conversations(Shape(200, 5, think=2.0), 1, 100)
    thinks = [seconds for each in held for seconds in each.thinks]
    assert len(thinks) == 1000
    assert 1.8 < sum(thinks) / len(thinks) < 2.2
    assert {*conversations(Shape(think=0.0), 1, 100)[0].thinks} == {0.0}


def test_more_conversations_do_not_change_the_first_ones() -> None:
    more = conversations(Shape(5, 4, 20, 8, 5, 2, think=0.5), 1, 100)
    assert more[:3] == conversations(SHAPE, 1, 100)


def test_a_prompt_is_all_that_was_said() -> None:
    held = Conversation(0, "c", ((1, 2), (3,), (4,)), (0.0,) * 3, 2)
    assert held.prompt([]) == [1, 2]
    assert held.prompt([[8, 9]]) == [1, 2, 8, 9, 3]
    assert held.prompt([[8, 9], [7, 6]]) == [1, 2, 8, 9, 3, 7, 6, 4]


def test_what_is_shared_fits_into_the_first_prompt() -> None:
    with pytest.raises(CliError, match="--shared-tokens"):
        Shape(prompt_tokens=10, shared_tokens=11)
