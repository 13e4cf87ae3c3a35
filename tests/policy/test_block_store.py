"""The memory tier: its books, whom it lets go and whom it does not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from xpod_policy.block_store import BlockStore

NUMBERS = st.integers(0, 9)


@dataclass(frozen=True)
class Block:
    nbytes: int


def name(number: int) -> bytes:
    return hashlib.blake2b(str(number).encode(), digest_size=16).digest()


class Books(RuleBasedStateMachine):
    """`self.here` is what must be there; what leaves is taken from it as it is told."""

    @initialize(budget=st.integers(0, 40))
    def start(self, budget: int) -> None:
        self.store: BlockStore[Block] = BlockStore(budget)
        self.here: dict[bytes, Block] = {}
        self.leased: set[bytes] = set()
        self.promised = 0

    def total(self) -> int:
        return sum(block.nbytes for block in self.here.values())

    def make_room(self, size: int, stays: int) -> bool:
        """As a node does it; the first `stays` of those that should leave are leased before they are gone."""
        kept = sum(block.nbytes for each, block in self.here.items() if each in self.leased)
        short = size - (self.store.budget - self.total() - self.promised)
        leaving = self.store.evict(size, self.leased)
        assert (leaving is None) == (size + kept + self.promised > self.store.budget)
        if leaving is None:
            return False
        sizes = [block.nbytes for block in leaving.values()]
        assert sum(sizes[:-1]) < max(1, short) <= max(1, sum(sizes)), "no more than have to"
        assert not self.leased & leaving.keys()
        for turn, (each, block) in enumerate(leaving.items()):
            assert self.store.find(each) == block, "still here"
            if turn < stays:
                self.store.stay(each)
            else:
                self.here.pop(each)
                assert self.store.remove(each) == block
        return self.store.free >= size

    @rule(number=NUMBERS, size=st.integers(1, 12), stays=st.sampled_from([0, 0, 0, 1]))
    def add(self, number: int, size: int, stays: int) -> None:
        self.store.asked(name(number))
        if name(number) not in self.here and self.make_room(size, stays):
            self.here[name(number)] = Block(size)
            self.store.add(name(number), Block(size))

    @rule(number=NUMBERS)
    def get(self, number: int) -> None:
        self.store.asked(name(number))
        assert self.store.get(name(number)) == self.here.get(name(number))

    @rule(number=NUMBERS)
    def remove(self, number: int) -> None:
        assert self.store.remove(name(number)) == self.here.pop(name(number), None)
        self.leased.discard(name(number))

    @rule(number=NUMBERS)
    def lease(self, number: int) -> None:
        self.leased ^= {name(number)} & self.here.keys()

    @rule(size=st.integers(1, 12))
    def reserve(self, size: int) -> None:
        if self.make_room(size, 0):
            self.store.reserved += size
            self.promised += size

    @rule()
    def give_up(self) -> None:
        self.store.reserved = self.promised = 0

    @invariant()
    def agrees(self) -> None:
        self.store.check()
        assert set(self.store) == set(self.here)
        assert len(self.store) == len(self.here)
        assert self.store.used == self.total()
        assert all(each in self.store for each in self.here)


Books.TestCase.settings = settings(deadline=None, derandomize=True, max_examples=150, stateful_step_count=30)
TestBooks = Books.TestCase


def use(store: BlockStore[Block], number: int, size: int = 1) -> bool:
    """Somebody wants the block, and stores it where it is not there; was it?"""
    store.asked(name(number))
    if store.get(name(number)) is not None:
        return True
    for each in store.evict(size, ()) or {}:
        store.remove(each)
    store.add(name(number), Block(size))
    return False


def those(store: BlockStore[Block], numbers: range) -> set[int]:
    return {number for number in numbers if name(number) in store}


@pytest.mark.parametrize("budget", [1, 3, 8, 100])
def test_of_what_was_used_once_the_last_is_kept(budget: int) -> None:
    """As in any LRU."""
    store: BlockStore[Block] = BlockStore(budget)
    for number in range(3 * budget):
        assert not use(store, number)
        assert those(store, range(number + 1)) == set(range(max(0, number + 1 - budget), number + 1))
    assert store.evictions == 2 * budget


@pytest.mark.parametrize("times", [2, 5])
def test_a_scan_does_not_push_out_what_is_used_often(times: int) -> None:
    store: BlockStore[Block] = BlockStore(100)
    for _ in range(times):
        for number in range(60):
            use(store, number)
    for number in range(1000, 1500):
        assert not use(store, number)
    assert those(store, range(60)) == set(range(60))
    assert those(store, range(1475, 1500)) == set(range(1475, 1500))
    assert len(store) == 100


def test_a_new_working_set_takes_the_place_of_an_old_one() -> None:
    """Even of one that was used much more often."""
    store: BlockStore[Block] = BlockStore(100)
    for _ in range(10):
        for number in range(100):
            use(store, number)
    hits = 0
    for _ in range(12):
        hits = sum(use(store, number) for number in range(1000, 1080))
    assert hits == 80
    assert those(store, range(1000, 1080)) == set(range(1000, 1080))


def test_the_newest_is_always_let_in() -> None:
    store: BlockStore[Block] = BlockStore(8)
    for _ in range(5):
        for number in range(8):
            use(store, number)
    use(store, 100)
    assert name(100) in store
    assert len(those(store, range(8))) == 7


def test_what_is_leased_stays_and_where_all_is_nobody_comes_in() -> None:
    store: BlockStore[Block] = BlockStore(3)
    for number in range(3):
        use(store, number)
    assert list(store.evict(1, {name(0), name(1)}) or {}) == [name(2)]
    assert store.evict(3, {name(0)}) is None
    assert store.evict(1, {name(0), name(1), name(2)}) == {}, "one is leaving already"
