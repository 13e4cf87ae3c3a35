"""Which sequences run in the next step: continuous batching with reserved room.

A sequence is admitted only when its whole life fits (prompt and output), so nothing is ever preempted.
Knows sequences by id and counts; it knows nothing of tensors or tokens.
Source: continuous batching as in Orca (Yu et al., OSDI 2022); room reserved for the output as in xDeepServe §FlowServe.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from xpod_policy.blocks import blocks_for
from xpod_policy.fair_turns import FairTurns

SMALL = 4
"""A small step has one part of so many of a whole one's tokens."""


@dataclass(frozen=True, slots=True)
class Work:
    """Run `count` tokens of a sequence, from position `start` on."""

    id: str
    start: int
    count: int


@dataclass(slots=True)
class Running:
    """A sequence in the batch: `known` tokens, of which `done` have their KV; there is room for that of `longest`.

    Of a `tenant`'s prompts the lowest `priority` is first.
    """

    id: str
    known: int
    done: int
    longest: int
    tenant: str = ""
    priority: int = 0

    @property
    def left(self) -> int:
        """Tokens to compute. A token without room has none: whoever computes prompts alone leaves it to others."""
        return min(self.known, self.longest) - self.done


@dataclass
class Batch:
    """Admission and composition of steps. `max_tokens` bounds the tokens of one step.

    From `max_sequences` on, every stream moves in every step, and so does the oldest chunk; below, they take turns.
    """

    max_sequences: int
    max_tokens: int
    total_blocks: int
    _reserved: dict[str, int] = field(default_factory=dict)
    """The longest that each may become."""
    _running: OrderedDict[str, Running] = field(default_factory=OrderedDict)
    _under_way: dict[str, Running] = field(default_factory=dict)
    """Those whose work is being computed."""

    def __post_init__(self) -> None:
        self._turns = FairTurns[str](self.max_tokens)

    @property
    def reserved_blocks(self) -> int:
        return sum(map(blocks_for, self._reserved.values()))

    @property
    def reserved_sequences(self) -> int:
        return len(self._reserved)

    @property
    def crowded(self) -> bool:
        """Are all slots taken, or more than half of the room? Then others may wait for either."""
        return len(self._reserved) >= self.max_sequences or 2 * self.reserved_blocks > self.total_blocks

    @property
    def running_ids(self) -> list[str]:
        """Sequences that take part in steps, in order of their turns."""
        return list(self._running)

    @property
    def tokens_left(self) -> int:
        """Known tokens of the running sequences that have no KV yet."""
        return sum(sequence.left for sequence in self._running.values())

    def can_reserve(self, longest: int) -> bool:
        """Is there room for a sequence of at most `longest` tokens?"""
        room = blocks_for(longest)
        return len(self._reserved) < self.max_sequences and self.reserved_blocks + room <= self.total_blocks

    def never_fits(self, longest: int) -> bool:
        """Would it not fit even alone?"""
        return blocks_for(longest) > self.total_blocks

    def reserve(self, id: str, longest: int) -> int:
        """Take a slot and room; returns the number of blocks."""
        assert id not in self._reserved
        assert self.can_reserve(longest)
        self._reserved[id] = longest
        return blocks_for(longest)

    def join(self, id: str, known: int, done: int, tenant: str = "", priority: int = 0) -> None:
        """A reserved sequence takes part from the next step on."""
        assert id in self._reserved
        assert id not in self._running
        assert 0 <= done < known
        here = {each.tenant for each in (*self._running.values(), *self._under_way.values())}
        if tenant not in here:
            self._turns.arrives(tenant, here)
        self._running[id] = Running(id, known, done, self._reserved[id], tenant, priority)

    def leave(self, id: str) -> None:
        """Finished, cancelled or failed: the slot and the room are free."""
        self._reserved.pop(id, None)
        self._running.pop(id, None)

    def next_step(self) -> list[Work]:
        """The next step: single tokens first (they keep streams moving), then chunks, tenants in turn, as they came."""
        return self._step(each for each in self._running.values() if each.id not in self._under_way)

    def next_between(self) -> list[Work]:
        """What need not wait for the work that is under way: of tenants whose turn would have been before."""
        under_way = {each.tenant for each in self._under_way.values()}
        if not under_way:
            return []
        early = {
            each.tenant
            for each in self._running.values()
            if each.tenant not in under_way and self._turns.is_before(each.tenant, under_way)
        }
        return self._step(each for each in self._running.values() if each.tenant in early)

    @contextmanager
    def under_way(self, works: Iterable[Work]) -> Iterator[None]:
        """While it lasts, the work is computed, and its sequences have no other."""
        ids = [work.id for work in works]
        self._under_way.update((id, self._running[id]) for id in ids)
        try:
            yield
        finally:
            for id in ids:
                del self._under_way[id]

    def _step(self, sequences: Iterable[Running]) -> list[Work]:
        """One tenant's, filled up with what the others have while it is small."""
        running = [sequence for sequence in sequences if sequence.left]
        places = {
            tenant: place
            for place, tenant in enumerate(self._turns.ranked({each.tenant for each in running}))
        }
        chunks = [sequence for sequence in running if sequence.left > 1]
        chunks.sort(key=lambda each: (places[each.tenant], each.priority))
        step: list[Work] = []
        tokens = 0
        for sequence in (*(each for each in running if each.left == 1), *chunks):
            own = sequence.left == 1 or places[sequence.tenant] == 0
            count = min(sequence.left, (self.max_tokens if own else self.max_tokens // SMALL) - tokens)
            if count > 0:
                step.append(Work(sequence.id, sequence.done, count))
                tokens += count
        return step

    def ran(self, work: Work, grew: bool) -> None:
        """`work` was computed; `grew` says that a new token was sampled behind it."""
        sequence = self._running.get(work.id)
        if sequence is not None:
            assert work.start == sequence.done
            sequence.done += work.count
            sequence.known += grew
            self._turns.did(sequence.tenant, work.count)
            if work.count == 1:  # where a step has no room for all, everyone gets a turn
                self._running.move_to_end(work.id)


def micro_batches(counts: Sequence[int], most: int, smallest: int) -> list[slice]:
    """Cut pieces of work of `counts` tokens, in order, into at most `most` runs of about equally many tokens.

    There are fewer where a run would have less than `smallest` tokens on average, or no piece of its own.
    """
    parts = max(1, min(most, len(counts), sum(counts) // max(1, smallest)))
    cuts, done = [0], 0
    for index, count in enumerate(counts):
        left = parts - len(cuts)  # cuts still to make
        if (
            index > cuts[-1]
            and left
            and (done + count / 2 >= sum(counts) * len(cuts) / parts or len(counts) - index <= left)
        ):
            cuts.append(index)
        done += count
    return [slice(begin, end) for begin, end in zip(cuts, [*cuts[1:], len(counts)], strict=True)]
