"""The log against a file that is really written: what it says is there can be read."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from xpod_policy.block_log import BlockLog, Extent

NAMES = st.integers(1, 20)


class AgainstAFile(RuleBasedStateMachine):
    """Each byte of `self.file` is the number of the block that was written there last."""

    @initialize(budget=st.integers(0, 30))
    def start(self, budget: int) -> None:
        self.log = BlockLog(budget)
        self.file = bytearray(budget)
        self.written: list[int] = []

    @rule(number=NAMES, size=st.integers(1, 12))
    def put(self, number: int, size: int) -> None:
        known = bytes([number]) in self.log
        extent = self.log.put(bytes([number]), size)
        assert (extent is None) == (known or size > self.log.budget)
        if extent is not None:
            assert extent.size == size
            self.file[extent.offset : extent.end] = bytes([number]) * size
            self.written.append(number)

    @rule(number=NAMES)
    def forget(self, number: int) -> None:
        self.log.forget(bytes([number]))
        assert bytes([number]) not in self.log

    @invariant()
    def what_is_there_can_be_read(self) -> None:
        found = {n: extent for n in range(21) if (extent := self.log.find(bytes([n]))) is not None}
        for number, extent in found.items():
            assert extent.end <= self.log.budget
            assert self.file[extent.offset : extent.end] == bytes([number]) * extent.size
        assert self.log.used == sum(extent.size for extent in found.values()) <= self.log.budget
        assert len(self.log) == len(found)


AgainstAFile.TestCase.settings = settings(
    deadline=None, derandomize=True, max_examples=200, stateful_step_count=40
)
TestAgainstAFile = AgainstAFile.TestCase


def test_the_oldest_are_written_over_first() -> None:
    log = BlockLog(10)
    assert [log.put(name, 4) for name in (b"a", b"b")] == [Extent(0, 4), Extent(4, 4)]
    assert log.put(b"c", 4) == Extent(0, 4)
    assert (b"a" in log, b"b" in log) == (False, True)
    assert log.put(b"d", 3) == Extent(4, 3)
    assert (b"b" in log, b"c" in log) == (False, True)
