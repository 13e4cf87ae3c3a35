"""The LRU against a list that is searched from one end to the other."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from xpod_policy.block_store import BlockStore

NAMES = st.integers(0, 9).map(lambda i: bytes([i]))


@dataclass(frozen=True)
class Block:
    nbytes: int


class AgainstNaiveLru(RuleBasedStateMachine):
    """`self.rows` holds (name, block), the least recently used first."""

    @initialize(budget=st.integers(0, 20))
    def start(self, budget: int) -> None:
        self.store: BlockStore[Block] = BlockStore(budget)
        self.rows: list[tuple[bytes, Block]] = []
        self.hits = self.misses = self.evictions = 0

    def find(self, name: bytes) -> tuple[bytes, Block] | None:
        return next((row for row in self.rows if row[0] == name), None)

    def touch(self, row: tuple[bytes, Block]) -> None:
        self.rows.remove(row)
        self.rows.append(row)

    @rule(name=NAMES, size=st.integers(0, 12))
    def put(self, name: bytes, size: int) -> None:
        gone: list[tuple[bytes, Block]] = []
        if row := self.find(name):
            self.touch(row)
        elif size > self.store.budget:
            gone = [(name, Block(size))]
        else:
            self.rows.append((name, Block(size)))
            while sum(block.nbytes for _, block in self.rows) > self.store.budget:
                gone.append(self.rows.pop(0))
                self.evictions += 1
        assert list(self.store.put(name, Block(size)).items()) == gone

    @rule(name=NAMES)
    def get(self, name: bytes) -> None:
        row = self.find(name)
        if row:
            self.touch(row)
        self.hits, self.misses = self.hits + bool(row), self.misses + (not row)
        assert self.store.get(name) == (row[1] if row else None)

    @rule(names=st.lists(NAMES, max_size=4))
    def present(self, names: list[bytes]) -> None:
        expected = [self.find(name) is not None for name in names]
        assert self.store.present(names) == expected == [name in self.store for name in names]

    @invariant()
    def agrees(self) -> None:
        assert len(self.store) == len(self.rows)
        assert self.store.used == sum(block.nbytes for _, block in self.rows) <= self.store.budget
        counters = (self.store.hits, self.store.misses, self.store.evictions)
        assert counters == (self.hits, self.misses, self.evictions)


AgainstNaiveLru.TestCase.settings = settings(
    deadline=None, derandomize=True, max_examples=150, stateful_step_count=30
)
TestAgainstNaiveLru = AgainstNaiveLru.TestCase


@pytest.mark.parametrize(
    ("used_again", "evicted"), [([], [b"a"]), ([b"a"], [b"b"]), ([b"b"], [b"a"]), ([b"a", b"b"], [b"a"])]
)
def test_the_least_recently_used_goes_first(used_again: list[bytes], evicted: list[bytes]) -> None:
    store: BlockStore[Block] = BlockStore(10)
    store.put(b"a", Block(5))
    store.put(b"b", Block(5))
    for name in used_again:
        store.get(name)
    assert store.present([b"a", b"b"]) == [True, True]
    assert list(store.put(b"c", Block(1))) == evicted


def test_what_can_never_fit_evicts_nothing() -> None:
    store: BlockStore[Block] = BlockStore(10)
    store.put(b"a", Block(10))
    assert store.put(b"b", Block(11)) == {b"b": Block(11)}
    assert (store.present([b"a", b"b"]), store.evictions) == ([True, False], 0)
