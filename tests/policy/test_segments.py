"""The index of segments against files that are really written: what it says is there can be read, in the budget."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from xpod_policy.segments import Place, Segments

FILE_HEAD, HEAD = 2, 3
NAMES = st.integers(1, 20).map(lambda number: bytes([number]))


class AgainstFiles(RuleBasedStateMachine):
    """`self.files` holds, by segment, records of `name * (HEAD + size)`."""

    @initialize(budget=st.integers(0, 400))
    def start(self, budget: int) -> None:
        self.index = Segments(budget, FILE_HEAD, HEAD)
        self.files: dict[int, bytearray] = {}
        self.held: set[bytes] = set()

    @rule(name=NAMES, size=st.integers(1, 30))
    def put(self, name: bytes, size: int) -> None:
        before = set(self.index)
        plan = self.index.place(name, size, self.held)
        if plan is None:
            fits = size + FILE_HEAD + HEAD <= self.index.budget
            assert name in before or not fits or self.held & before
            return
        assert name not in before
        assert before - set(self.index) == set(plan.lost)
        assert not self.held & set(plan.lost)
        for number in plan.dropped:
            del self.files[number]
        file = self.files.setdefault(plan.place.segment, bytearray(FILE_HEAD))
        assert len(file) == plan.place.offset, "appended"
        file += name * (HEAD + size)

    @rule(name=NAMES)
    def forget(self, name: bytes) -> None:
        place = self.index.find(name)
        assert self.index.forget(name) == place
        assert name not in self.index

    @rule(name=NAMES)
    def hold(self, name: bytes) -> None:
        self.held ^= {name}

    @rule()
    def fail(self) -> None:
        if self.index.numbers:
            self.index.seal(self.index.numbers[-1])

    @rule(budget=st.integers(0, 400))
    def restart(self, budget: int) -> None:
        """Those that are deleted are marked in their files, so they are not found."""
        found = {name: place for name in self.index if (place := self.index.find(name))}
        self.index = Segments(budget, FILE_HEAD, HEAD)
        for number, file in sorted(self.files.items()):
            mine = sorted((place.offset, name) for name, place in found.items() if place.segment == number)
            self.index.restore(number, len(file), [(name, found[name]) for _, name in mine])
        for number in self.index.shrink():
            del self.files[number]

    @rule()
    @precondition(lambda self: len(self.files) > 3)
    def clear(self) -> None:
        assert set(self.index.clear()) == set(self.files)
        self.files.clear()
        assert len(self.index) == self.index.used == 0

    @invariant()
    def what_is_there_can_be_read(self) -> None:
        self.index.check()
        assert sum(map(len, self.files.values())) == self.index.used <= self.index.budget
        assert sorted(self.files) == list(self.index.numbers)
        for name in self.index:
            place = self.index.find(name)
            assert place is not None
            end = place.offset + HEAD + place.size
            assert self.files[place.segment][place.offset : end] == name * (HEAD + place.size)


AgainstFiles.TestCase.settings = settings(
    deadline=None, derandomize=True, max_examples=200, stateful_step_count=50
)
TestAgainstFiles = AgainstFiles.TestCase


def filled(budget: int, count: int, size: int) -> Segments:
    index = Segments(budget, FILE_HEAD, HEAD)
    for number in range(count):
        assert index.place(bytes([number]), size) is not None
    return index


def test_a_segment_takes_a_sixteenth_of_the_budget() -> None:
    index = filled(1600, 40, 17)  # four records of 20 and the head of 2 are 82 bytes
    places = [index.find(bytes([number])) for number in range(40)]
    assert places[:5] == [
        Place(0, 2, 17),
        Place(0, 22, 17),
        Place(0, 42, 17),
        Place(0, 62, 17),
        Place(1, 2, 17),
    ]
    assert index.numbers == tuple(range(10))


def test_the_oldest_segment_makes_room_and_an_empty_one_before_it() -> None:
    index = filled(1600, 76, 17)
    assert index.numbers == tuple(range(19))
    for number in range(8, 12):
        index.forget(bytes([number]))
    plan = index.place(b"new", 70)
    assert plan is not None
    assert (plan.dropped, plan.lost) == ((2,), ())
    plan = index.place(b"newer", 70)
    assert plan is not None
    assert plan.dropped == (0,)
    assert sorted(plan.lost) == [bytes([number]) for number in range(4)]


@pytest.mark.parametrize(("held", "dropped"), [({0}, (1,)), ({0, 5}, (2,)), ({4}, (0,))])
def test_a_segment_with_a_held_block_stays(held: set[int], dropped: tuple[int, ...]) -> None:
    index = filled(1600, 76, 17)
    plan = index.place(b"new", 70, {bytes([number]) for number in held})
    assert plan is not None
    assert plan.dropped == dropped


def test_where_all_is_held_nothing_is_written() -> None:
    index = filled(100, 3, 26)
    assert index.place(b"new", 26, {bytes([number]) for number in range(3)}) is None
    assert len(index) == 3


def test_a_block_over_the_whole_budget_drops_nothing() -> None:
    index = filled(100, 3, 26)
    assert index.place(b"new", 96) is None
    assert len(index) == 3
