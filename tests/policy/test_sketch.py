"""The sketch against exact counts."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpod_policy.sketch import MOST, Sketch


def name(number: int) -> bytes:
    return hashlib.blake2b(str(number).encode(), digest_size=16).digest()


@given(st.lists(st.integers(0, 40), max_size=200), st.sampled_from([4, 64, 1024]))
def test_never_less_than_the_truth(numbers: list[int], width: int) -> None:
    sketch = Sketch(width)
    for number in numbers:
        sketch.add(name(number))
    for number, times in Counter(numbers).items():
        assert min(times, MOST) <= sketch.count(name(number)) <= MOST
    assert sketch.added == len(numbers)


def test_rarely_more_than_the_truth() -> None:
    sketch = Sketch(1 << 12)
    for number in range(2000):
        for _ in range(1 + number % 3):
            sketch.add(name(number))
    wrong = sum(sketch.count(name(number)) != 1 + number % 3 for number in range(2000))
    assert wrong < 2000 * 0.05
    assert sum(sketch.count(name(number)) > 0 for number in range(2000, 4000)) < 2000 * 0.05


@pytest.mark.parametrize(("times", "halved"), [(1, 0), (2, 1), (9, 4), (15, 7), (40, 7)])
def test_what_was_long_ago_counts_half(times: int, halved: int) -> None:
    sketch = Sketch(64)
    for _ in range(times):
        sketch.add(name(1))
    sketch.halve()
    assert (sketch.count(name(1)), sketch.added) == (halved, times // 2)
