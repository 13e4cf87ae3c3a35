"""Continuous batching: bounds that always hold, and everybody's progress."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from xpod_policy.batch import Batch, Work, micro_batches
from xpod_policy.blocks import blocks_for


def batch(max_sequences: int = 4, max_tokens: int = 8, total_blocks: int = 10) -> Batch:
    return Batch(max_sequences, max_tokens, total_blocks)


def joined(*sequences: tuple[str, int, int], max_tokens: int = 8) -> Batch:
    built = batch(max_sequences=len(sequences), max_tokens=max_tokens, total_blocks=100)
    for name, known, done in sequences:
        built.reserve(name, known + 16)
        built.join(name, known, done)
    return built


@pytest.mark.parametrize(
    ("longest", "can", "never"),
    [(0, True, False), (1, True, False), (112, True, False), (113, False, False), (161, False, True)],
)
def test_room_is_reserved_for_the_longest(longest: int, can: bool, never: bool) -> None:
    built = batch()
    assert built.reserve("a", 33) == 3
    assert (built.reserved_blocks, built.reserved_sequences, built.running_ids) == (3, 1, [])
    assert (built.can_reserve(longest), built.never_fits(longest)) == (can, never)


def test_slots_are_bounded() -> None:
    built = batch(max_sequences=1)
    built.reserve("a", 1)
    assert not built.can_reserve(1)
    with pytest.raises(AssertionError):
        built.reserve("b", 1)


@pytest.mark.parametrize(("name", "known", "done"), [("b", 5, 0), ("a", 5, 5), ("a", 5, -1), ("a", 0, 0)])
def test_joins_that_are_mistakes(name: str, known: int, done: int) -> None:
    built = batch()
    built.reserve("a", 16)
    with pytest.raises(AssertionError):
        built.join(name, known, done)


@pytest.mark.parametrize("join", [True, False])
def test_leave_frees(join: bool) -> None:
    built = batch(max_sequences=1)
    built.reserve("a", 160)
    if join:
        built.join("a", 5, 0)
    built.leave("a")
    built.leave("a")
    assert (built.reserved_blocks, built.reserved_sequences, built.running_ids) == (0, 0, [])
    assert built.next_step() == []
    assert built.can_reserve(160)


@pytest.mark.parametrize(
    ("sequences", "step"),
    [
        ([], []),
        ([("a", 5, 0)], [Work("a", 0, 5)]),
        ([("a", 20, 0)], [Work("a", 0, 8)]),
        ([("a", 20, 15)], [Work("a", 15, 5)]),
        ([("a", 20, 0), ("b", 9, 8)], [Work("b", 8, 1), Work("a", 0, 7)]),
        ([("a", 3, 0), ("b", 9, 0)], [Work("a", 0, 3), Work("b", 0, 5)]),
        ([("a", 9, 0), ("b", 9, 0)], [Work("a", 0, 8)]),
        ([("b", 2, 1), ("a", 2, 1)], [Work("b", 1, 1), Work("a", 1, 1)]),
    ],
)
def test_steps(sequences: list[tuple[str, int, int]], step: list[Work]) -> None:
    assert joined(*sequences).next_step() == step


def shared_by(*sequences: tuple[str, int, str, int]) -> Batch:
    """Prompts by name, length, tenant and priority; steps of 8 tokens."""
    built = batch(max_sequences=100, total_blocks=1000)
    for name, known, tenant, priority in sequences:
        built.reserve(name, known + 100)
        built.join(name, known, 0, tenant, priority)
    return built


def ran_step(built: Batch) -> list[Work]:
    step = built.next_step()
    for work in step:
        built.ran(work, grew=False)
        if built._running[work.id].left == 0:
            built.leave(work.id)
    return step


def test_whoever_comes_to_anothers_prompts_has_the_next_step_to_itself() -> None:
    built = shared_by(("a1", 40, "a", 0), ("a2", 40, "a", 0))
    ran_step(built)
    built.reserve("b", 10)
    built.join("b", 6, 0, "b")
    assert ran_step(built) == [Work("b", 0, 6)]
    assert ran_step(built) == [Work("a1", 8, 8)]


def test_a_small_step_is_filled_up_with_others_prompts() -> None:
    """A quarter of 8 tokens is one of 2: short prompts of many tenants go together."""
    built = shared_by(*((f"{tenant}1", 1, tenant, 0) for tenant in "abc"), ("d1", 40, "d", 0))
    assert [work.id for work in ran_step(built)] == ["a1", "b1", "c1"]
    built = shared_by(("a1", 1, "a", 0), ("b1", 40, "b", 0))
    assert ran_step(built) == [Work("a1", 0, 1), Work("b1", 0, 1)]


def test_tenants_get_equal_parts() -> None:
    built = shared_by(("a1", 50, "a", 0), ("a2", 50, "a", 0), ("b1", 100, "b", 0))
    steps = [work for _ in range(10) for work in ran_step(built)]
    assert sum(work.count for work in steps if work.id == "b1") == pytest.approx(40, abs=8)


def test_the_most_urgent_of_a_tenant_is_first() -> None:
    built = shared_by(("later", 20, "a", 0), ("now", 4, "a", -1))
    assert ran_step(built) == [Work("now", 0, 4), Work("later", 0, 4)]


def came(built: Batch, name: str, known: int, tenant: str) -> None:
    built.reserve(name, known + 100)
    built.join(name, known, 0, tenant)


def test_who_comes_need_not_wait_for_the_step_of_one_who_had_more() -> None:
    built = shared_by(("a1", 100, "a", 0))
    assert built.next_between() == []
    ran_step(built)
    with built.under_way(built.next_step()):
        came(built, "a2", 5, "a")
        assert built.next_between() == [], "its own tenant's"
        came(built, "b1", 6, "b")
        works = built.next_between()
        assert works == [Work("b1", 0, 6)]
        with built.under_way(works):
            assert built.next_between() == [], "no work twice"
            assert built.next_step() == [Work("a2", 0, 5)]
        built.ran(works[0], grew=True)
        built.leave("b1")
        came(built, "b2", 6, "b")
        assert built.next_between() == [Work("b2", 0, 6)], "a whole step's worth in advance"
        built.ran(Work("b2", 0, 6), grew=True)
        built.leave("b2")
        came(built, "b3", 6, "b")
        assert built.next_between() == [], "now it has had more"


def test_who_comes_waits_for_the_step_of_one_who_had_no_more() -> None:
    built = shared_by(("a1", 6, "a", 0))
    with built.under_way(built.next_step()):
        came(built, "b1", 6, "b")
        assert built.next_between() == []


def test_what_one_who_is_away_has_in_advance_does_not_grow() -> None:
    built = shared_by(("a1", 10_000, "a", 0), ("b1", 1, "b", 0))
    for _ in range(100):
        ran_step(built)
    came(built, "b2", 1000, "b")
    counts = [work.count for _ in range(9) for work in ran_step(built) if work.id == "b2"]
    assert sum(counts) == pytest.approx(40, abs=8)


def test_what_has_all_its_tokens_is_not_computed_again_though_it_has_not_left() -> None:
    """Two steps run at once: whoever sees that it is through may be later than the next step."""
    built = batch()
    built.reserve("prompt", 6)
    built.join("prompt", 6, 0)
    (work,) = built.next_step()
    with built.under_way([work]):
        built.ran(work, grew=True)
    assert (built.next_step(), built.tokens_left) == ([], 0)


def test_a_sequence_grows_token_by_token() -> None:
    built = joined(("a", 10, 0))
    steps = []
    for _ in range(4):
        (work,) = built.next_step()
        steps.append(work)
        built.ran(work, grew=work.start + work.count >= 10)
    assert steps == [Work("a", 0, 8), Work("a", 8, 2), Work("a", 10, 1), Work("a", 11, 1)]


def test_work_of_one_that_left_is_forgotten() -> None:
    built = joined(("a", 10, 0))
    (work,) = built.next_step()
    built.leave("a")
    built.ran(work, grew=True)
    assert (built.running_ids, built.tokens_left) == ([], 0)


class Life(RuleBasedStateMachine):
    """Sequences come and go; `self.alive` holds [known, done, longest] of those that run, in order of their turns."""

    @initialize(sequences=st.integers(1, 5), tokens=st.integers(1, 12), blocks=st.integers(1, 12))
    def start(self, sequences: int, tokens: int, blocks: int) -> None:
        self.batch = Batch(sequences, tokens, blocks)
        self.alive: dict[str, list[int]] = {}
        self.waiting: dict[str, int] = {}
        self.count = 0

    @rule(longest=st.integers(1, 100))
    def reserve(self, longest: int) -> None:
        used = sum(blocks_for(length) for *_, length in self.alive.values())
        used += sum(map(blocks_for, self.waiting.values()))
        fits = used + blocks_for(longest) <= self.batch.total_blocks
        slot = len(self.alive) + len(self.waiting) < self.batch.max_sequences
        assert self.batch.can_reserve(longest) == (fits and slot)
        if fits and slot:
            self.count += 1
            self.batch.reserve(f"s{self.count}", longest)
            self.waiting[f"s{self.count}"] = longest

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def join(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.waiting)))
        longest = self.waiting.pop(name)
        known = data.draw(st.integers(1, longest))
        done = data.draw(st.integers(0, known - 1))
        self.batch.join(name, known, done)
        self.alive[name] = [known, done, longest]

    @precondition(lambda self: self.alive or self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted([*self.alive, *self.waiting])))
        self.batch.leave(name)
        self.alive.pop(name, None)
        self.waiting.pop(name, None)

    @rule()
    def step(self) -> None:
        step = self.batch.next_step()
        assert len({work.id for work in step}) == len(step)
        left = {name: known - done for name, (known, done, _) in self.alive.items()}
        assert sum(work.count for work in step) == min(self.batch.max_tokens, sum(left.values()))
        self.everybody_who_should_runs({work.id for work in step}, left)
        for work in step:
            row = self.alive[work.id]
            assert work.start == row[1]
            assert 1 <= work.count <= left[work.id]
            row[1] += work.count
            grew = row[1] == row[0]
            self.batch.ran(work, grew)
            row[0] += grew
            if work.count == 1:
                self.alive[work.id] = self.alive.pop(work.id)
            if row[0] > row[2]:
                self.batch.leave(work.id)
                del self.alive[work.id]

    def everybody_who_should_runs(self, ran: set[str], left: dict[str, int]) -> None:
        if self.batch.max_tokens >= self.batch.max_sequences:
            assert ran >= {name for name, count in left.items() if count == 1}
            assert ran >= set([name for name, count in left.items() if count > 1][:1])

    @invariant()
    def within_bounds(self) -> None:
        assert self.batch.running_ids == list(self.alive)
        assert self.batch.tokens_left == sum(known - done for known, done, _ in self.alive.values())
        assert (
            self.batch.reserved_sequences == len(self.alive) + len(self.waiting) <= self.batch.max_sequences
        )
        assert self.batch.reserved_blocks <= self.batch.total_blocks

    def teardown(self) -> None:
        """Left alone, everybody comes to an end, and no step is idle meanwhile."""
        if hasattr(self, "batch"):
            for _ in range(sum(longest + 1 for *_, longest in self.alive.values())):
                self.step()
            assert self.batch.running_ids == []


Life.TestCase.settings = settings(deadline=None, derandomize=True, max_examples=150, stateful_step_count=30)
TestLife = Life.TestCase


def test_singles_take_turns_where_a_step_has_no_room_for_all() -> None:
    built = joined(("a", 5, 4), ("b", 5, 4), ("c", 5, 4), max_tokens=2)
    seen: list[list[str]] = []
    for _ in range(3):
        step = built.next_step()
        seen.append([work.id for work in step])
        for work in step:
            built.ran(work, True)
    assert seen == [["a", "b"], ["c", "a"], ["b", "c"]]


@pytest.mark.parametrize(
    ("slots", "longest", "crowded"), [(2, 16, False), (1, 16, True), (2, 80, False), (2, 81, True)]
)
def test_crowded(slots: int, longest: int, crowded: bool) -> None:
    built = batch(max_sequences=slots)
    built.reserve("a", longest)
    assert built.crowded is crowded


@pytest.mark.parametrize(
    ("counts", "most", "smallest", "expected"),
    [
        ([1], 2, 1, [1]),
        ([1, 1], 1, 1, [2]),
        ([1, 1], 2, 1, [1, 1]),
        ([1] * 7, 2, 1, [3, 4]),
        ([1] * 7, 2, 4, [7]),
        ([1] * 8, 2, 4, [4, 4]),
        ([256, 256], 2, 64, [1, 1]),
        ([10, 10, 1000], 2, 64, [2, 1]),
        ([1000, 10, 10], 2, 64, [1, 2]),
        ([1, 1, 1, 509], 2, 1, [3, 1]),
        ([5] * 9, 3, 1, [3, 3, 3]),
    ],
)
def test_micro_batches_share_the_tokens(
    counts: list[int], most: int, smallest: int, expected: list[int]
) -> None:
    parts = micro_batches(counts, most, smallest)
    assert [len(counts[part]) for part in parts] == expected
    assert [count for part in parts for count in counts[part]] == counts


@given(st.lists(st.integers(1, 600), min_size=1, max_size=70), st.integers(1, 4), st.integers(1, 300))
def test_micro_batches_leave_nothing_out_and_none_empty(counts: list[int], most: int, smallest: int) -> None:
    parts = micro_batches(counts, most, smallest)
    assert 1 <= len(parts) <= most
    assert [count for part in parts for count in counts[part]] == counts
    assert all(counts[part] for part in parts)
    assert len(parts) == 1 or sum(counts) >= smallest * len(parts)
