"""The index of blocks: prefixes by holder, and no holder's blocks for another's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpod_policy.block_index import MOST_HOLDERS, BlockIndex, Prefixes
from xpod_policy.blocks import names, namespace

HOLDERS = ("a", "b", "c")


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


def run(*numbers: int) -> bytes:
    return b"".join(map(name, numbers))


@pytest.mark.parametrize(
    ("asked", "together", "held", "joint"),
    [
        ([], ["a"], {}, 0),
        ([9], ["a"], {}, 0),
        ([1], [], {"a": 1, "b": 1}, 0),
        ([1, 2, 3, 4], [], {"a": 2, "b": 1}, 0),
        ([1, 2, 3, 4], ["a", "c"], {"a": 2, "b": 1}, 4),
        ([1, 2, 3, 4], ["b", "c"], {"a": 2, "b": 1}, 1),
        ([1, 2, 3, 4], ["c"], {"a": 2, "b": 1}, 0),
        ([3, 4, 5], ["c"], {"c": 2}, 2),
        ([1, 9, 2], ["a", "b", "c"], {"a": 1, "b": 1}, 1),
        ([1, 2], ["nobody", "a", "a"], {"a": 2, "b": 1}, 2),
    ],
)
def test_who_has_how_much(asked: list[int], together: list[str], held: dict[str, int], joint: int) -> None:
    index = BlockIndex()
    index.add("a", run(1, 2))
    index.add("b", run(1))
    index.add("c", run(3, 4))
    assert index.match(map(name, asked), together) == Prefixes(held, joint)


def test_no_more_names_are_drawn_than_needed() -> None:
    index = BlockIndex()
    index.add("a", run(1, 2))
    drawn: list[int] = []

    def asked() -> Iterator[bytes]:
        for number in range(1, 100):
            drawn.append(number)
            yield name(number)

    assert index.match(asked(), ["a"]).held == {"a": 2}
    assert drawn == [1, 2, 3]


def test_a_table_that_is_full_takes_no_new_names_but_more_holders() -> None:
    index = BlockIndex(most=2)
    index.add("a", run(1, 2, 3))
    index.add("b", run(2, 4))
    assert (len(index), index.refused) == (2, 2)
    assert (index.names("a"), index.names("b")) == ({name(1), name(2)}, {name(2)})
    index.remove("a", run(1))
    index.add("b", run(5))
    assert index.names("b") == {name(2), name(5)}


def test_a_pod_has_at_most_so_many_holders() -> None:
    index = BlockIndex()
    for number in range(MOST_HOLDERS + 1):
        index.add(f"h{number}", run(1, 2))
    assert len(index.holders) == MOST_HOLDERS
    assert index.refused == 2
    assert len(index.match([name(1), name(2)]).held) == MOST_HOLDERS
    index.forget("h3")
    index.add("late", run(2))
    assert index.names("late") == {name(2)}, "it has nothing of who had its place before"


Change = st.tuples(
    st.sampled_from(["add", "remove", "replace", "forget"]),
    st.sampled_from(HOLDERS),
    st.lists(st.integers(1, 8), max_size=6),
)


@settings(deadline=None, derandomize=True)
@given(st.lists(Change, max_size=30), st.lists(st.integers(1, 8), max_size=8, unique=True))
def test_as_sets_would_say_it(changes: list[tuple[str, str, list[int]]], asked: list[int]) -> None:
    index = BlockIndex()
    truth: dict[str, set[int]] = {holder: set() for holder in HOLDERS}
    for what, holder, numbers in changes:
        if what == "forget":
            index.forget(holder)
            truth[holder] = set()
            continue
        getattr(index, what)(holder, run(*numbers))
        given = set(numbers)
        had = truth[holder]
        truth[holder] = {"add": had | given, "remove": had - given, "replace": given}[what]
    assert {holder: index.names(holder) for holder in HOLDERS} == {
        holder: set(map(name, numbers)) for holder, numbers in truth.items()
    }
    assert len(index) == len(set.union(*truth.values()))
    found = index.match(map(name, asked), ["a", "b"])
    assert found.held == {h: n for h in HOLDERS if (n := _prefix(asked, truth[h]))}
    assert found.together == _prefix(asked, truth["a"] | truth["b"])


def _prefix(asked: list[int], has: set[int]) -> int:
    return next((place for place, number in enumerate(asked) if number not in has), len(asked))


def test_prompts_that_begin_alike_share_their_blocks() -> None:
    root, index = namespace("m"), BlockIndex()
    one, other = bytes(4 * 40), bytes(4 * 32) + b"\1" * 32
    index.add("a", b"".join(names(root, one)))
    assert index.match(names(root, one)).held == {"a": 3}
    assert index.match(names(root, other)).held == {"a": 2}
    assert index.match(names(namespace("n"), one)).held == {}
