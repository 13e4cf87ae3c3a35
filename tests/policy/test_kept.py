"""Kept blocks against a model that only counts: nobody's block is given away, and none is lost."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from xpod_policy.kept import KeptBlocks

LIMIT, BLOCKS = 4, 24
PREFIXES = st.lists(st.integers(0, 1), min_size=1, max_size=5).map(
    lambda bits: [bytes(bits[: end + 1]) for end in range(len(bits))]
)


class Worker(RuleBasedStateMachine):
    """Sequences come, share a prefix, fill their blocks, and leave; `content` is what each block holds."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = KeptBlocks(LIMIT)
        self.free = list(range(BLOCKS))
        self.content: dict[int, bytes] = {}
        self.tables: list[tuple[list[bytes], list[int]]] = []

    @precondition(lambda self: len(self.tables) < 4)
    @rule(names=PREFIXES)
    def comes(self, names: list[bytes]) -> None:
        shared = self.kept.leading(names)
        self.kept.use(shared)
        need = len(names) - len(shared)
        if need > len(self.free):
            self.free += self.kept.give_up(need - len(self.free))[0]
        own = [self.free.pop() for _ in range(need)]
        assert [self.content[block] for block in shared] == names[: len(shared)]
        for block, name in zip(own, names[len(shared) :], strict=True):
            self.content[block] = name
            self.kept.add(name, block)
        self.tables.append((names, [*shared, *own]))

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        _, table = self.tables.pop(data.draw(st.integers(0, len(self.tables) - 1)))
        before = set(self.kept.names())
        free, gone = self.kept.leave(table)
        assert set(gone) == before - set(self.kept.names())
        self.free += free

    @invariant()
    def whoever_is_here_still_has_its_content(self) -> None:
        for names, table in self.tables:
            assert [self.content[block] for block in table] == names

    @invariant()
    def every_block_is_somewhere_once(self) -> None:
        used = {block for _, table in self.tables for block in table}
        assert not used & set(self.free)
        assert len(set(self.free)) == len(self.free)
        assert len(used) + len(self.free) + self.kept.idle == BLOCKS
        assert self.kept.idle <= LIMIT


TestKeptBlocks = Worker.TestCase


def table_of(kept: KeptBlocks, names: list[bytes], first: int) -> list[int]:
    blocks = list(range(first, first + len(names)))
    for name, block in zip(names, blocks, strict=True):
        assert kept.add(name, block)
    return blocks


def test_the_end_of_what_was_used_longest_ago_goes_first() -> None:
    kept = KeptBlocks(4)
    assert kept.leave(table_of(kept, [b"a", b"ab", b"abc"], 0)) == ([], [])
    assert kept.leave(table_of(kept, [b"x", b"xy", b"xyz"], 3)) == ([2, 1], [b"abc", b"ab"])
    assert kept.leading([b"a", b"ab"]) == [0]
    assert kept.leading([b"x", b"xy", b"xyz"]) == [3, 4, 5]


def test_of_two_with_one_name_the_first_is_kept() -> None:
    kept = KeptBlocks(4)
    table_of(kept, [b"a"], 0)
    assert not kept.add(b"a", 7)
    assert kept.leave([7]) == ([7], [])
    assert kept.leading([b"a"]) == [0]


def test_with_no_room_nothing_is_kept() -> None:
    kept = KeptBlocks(0)
    assert not kept.add(b"a", 0)
    assert kept.leave([0]) == ([0], [])
