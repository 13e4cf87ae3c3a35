"""Whose turn it is: by what was done for each, with a little in advance for those who were away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpod_policy.fair_turns import FairTurns

ADVANCE = 10


def turns(**done: float) -> FairTurns[str]:
    """Tenants that came together, and what was done for each since."""
    made = FairTurns[str](ADVANCE)
    for name in done:
        made.arrives(name, done)
    for name, amount in done.items():
        made.did(name, amount)
    return made


@pytest.mark.parametrize(
    ("done", "ranked"),
    [
        ({}, []),
        ({"a": 5.0}, ["a"]),
        ({"a": 5.0, "b": 3.0, "c": 4.0}, ["b", "c", "a"]),
        ({"b": 5.0, "a": 5.0}, ["b", "a"]),
    ],
)
def test_who_had_least_is_first_and_of_equals_who_came_first(
    done: dict[str, float], ranked: list[str]
) -> None:
    assert turns(**done).ranked(done) == ranked


@pytest.mark.parametrize(("had", "before"), [(ADVANCE - 1, True), (ADVANCE, False), (ADVANCE + 1, False)])
def test_who_comes_has_something_in_advance(had: float, before: bool) -> None:
    made = turns(loud=1000.0)
    made.ranked(["loud"])
    made.arrives("quiet", ["loud"])
    made.did("quiet", had)
    assert made.is_before("quiet", ["loud"]) is before


def test_what_is_had_in_advance_does_not_grow_with_absence() -> None:
    made = turns(loud=0.0, quiet=0.0)
    made.did("loud", 1000.0)
    made.ranked(["loud"])
    made.arrives("quiet", ["loud"])
    made.did("quiet", ADVANCE)
    assert not made.is_before("quiet", ["loud"])


def test_who_goes_and_comes_at_once_has_not_more() -> None:
    made = turns(a=100.0, b=99.0)
    made.ranked(["a", "b"])
    made.arrives("a", ["b"])
    assert made.ranked(["a", "b"]) == ["b", "a"]


def test_nobody_is_before_none() -> None:
    assert not turns(a=0.0).is_before("a", [])


def test_those_who_would_have_no_less_are_forgotten() -> None:
    made = turns(**{f"t{number}": 1.0 for number in range(100)}, loud=1000.0)
    made.ranked(["loud"])
    made.arrives("new", ["loud", "t3"])
    assert set(made._tenants) == {"loud", "t3", "new"}


@given(st.lists(st.integers(0, 20), min_size=3, max_size=3), st.integers(1, 20))
def test_tenants_that_stay_get_equal_parts(had: list[int], piece: int) -> None:
    """Whatever each had before: whoever is first gets a piece, and in the end nobody is more than one ahead."""
    done = dict(zip("abc", had, strict=True))
    made = turns(**done)
    for _ in range(100):
        first = made.ranked("abc")[0]
        made.did(first, piece)
        done[first] += piece
    assert max(done.values()) - min(done.values()) <= piece
