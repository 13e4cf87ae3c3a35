"""Which sequences run in the next step: continuous batching with reserved room.

A sequence is admitted only when its whole life fits (prompt and output), so nothing is ever preempted.
Knows sequences by id and counts; it knows nothing of tensors or tokens.
Source: continuous batching as in Orca (Yu et al., OSDI 2022); room reserved for the output as in xDeepServe §FlowServe.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from xpod_policy.blocks import blocks_for
from xpod_policy.chunk_turns import ChunkTurns


@dataclass(frozen=True, slots=True)
class Work:
    """Run `count` tokens of a sequence, from position `start` on."""

    id: str
    start: int
    count: int


@dataclass(slots=True)
class Running:
    """A sequence in the batch: `known` tokens, of which `done` have their KV; `room` blocks are reserved.

    Of a `tenant`'s prompts the lowest `priority` is first.
    """

    id: str
    known: int
    done: int
    room: int
    tenant: str = ""
    priority: int = 0

    @property
    def left(self) -> int:
        return self.known - self.done


@dataclass
class Batch:
    """Admission and composition of steps. `max_tokens` bounds the tokens of one step.

    From `max_sequences` on, every stream moves in every step, and so does the oldest chunk; below, they take turns.
    """

    max_sequences: int
    max_tokens: int
    total_blocks: int
    _reserved: dict[str, int] = field(default_factory=dict)
    _running: OrderedDict[str, Running] = field(default_factory=OrderedDict)
    _turns: ChunkTurns = field(default_factory=ChunkTurns)

    @property
    def reserved_blocks(self) -> int:
        return sum(self._reserved.values())

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
        self._reserved[id] = blocks_for(longest)
        return self._reserved[id]

    def join(self, id: str, known: int, done: int, tenant: str = "", priority: int = 0) -> None:
        """A reserved sequence takes part from the next step on."""
        assert id in self._reserved
        assert id not in self._running
        assert 0 <= done < known
        if not any(each.tenant == tenant and each.left > 1 for each in self._running.values()):
            self._turns.arrives(tenant)
        self._running[id] = Running(id, known, done, self._reserved[id], tenant, priority)

    def leave(self, id: str) -> None:
        """Finished, cancelled or failed: the slot and the room are free."""
        self._reserved.pop(id, None)
        self._running.pop(id, None)

    def next_step(self) -> list[Work]:
        """The next step: single tokens first (they keep streams moving), then chunks, tenants in turn, as they came."""
        chunks = [sequence for sequence in self._running.values() if sequence.left > 1]
        singles = [sequence for sequence in self._running.values() if sequence.left == 1]
        places, budget = self._turns.step({each.tenant for each in chunks}, self.max_tokens)
        chunks.sort(key=lambda each: (places[each.tenant], each.priority))
        step: list[Work] = []
        for sequence in (*singles, *chunks):
            count = min(sequence.left, budget)
            if count > 0:
                step.append(Work(sequence.id, sequence.done, count))
                budget -= count
        return step

    def ran(self, work: Work, grew: bool) -> None:
        """`work` was computed; `grew` says that a new token was sampled behind it."""
        sequence = self._running.get(work.id)
        if sequence is not None:
            assert work.start == sequence.done
            sequence.done += work.count
            sequence.known += grew
            if work.count > 1:
                self._turns.computed(sequence.tenant, work.count)
            else:  # where a step has no room for all, everyone gets a turn
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
