"""A worker's engine: it steps a batch of sequences, one forward pass a step, experts over the hop.

    schedule → run → sample → account

The same engine serves prefill (sequences leave after token 0) and decode (they stay until they finish). All
torch work happens on the worker's compute thread; between steps, sequences join and leave.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from xpod.attention.departure import Sink, Stored
from xpod.attention.exports import ByLayers, Exports, Filled, WholeBlocks, exported
from xpod.attention.hop import Hop
from xpod.attention.hop_trace import Part
from xpod.attention.passes import Passes
from xpod.attention.sequence import Sequence, to_sampling
from xpod.attention.step_traces import StepTraces
from xpod.attention.tables import Keeping, Tables
from xpod_model.attention_half import AttentionHalf, Segment
from xpod_model.kv import KVCache
from xpod_model.sampler import Sampled, sample_greedy
from xpod_policy.batch import Batch, Work, micro_batches
from xpod_policy.blocks import BLOCK_TOKENS, BlockRef, covering
from xpod_policy.cost import pairs_of
from xpod_proto import BlockData, TokenEvent
from xpod_runtime.compute import ComputeThread
from xpod_runtime.errors import XpodError
from xpod_runtime.tracing import Tracer


class TooLong(XpodError):
    """The sequence would not fit into this worker's KV cache even alone."""

    code = "context_length_exceeded"


class BadPrompt(XpodError):
    """The prompt is empty or has a token outside of the vocabulary."""

    code = "bad_request"


class Full(XpodError):
    """No slot or no KV room now; another worker may have some."""

    code = "busy"


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did: sequences with the token that each of them sampled, and blocks that became full.

    With a sink, blocks are `leaving` instead: whoever awaits `stored()` knows that they are stored. The step
    computed `tokens`, which attended to `pairs` tokens in all, in `seconds`, without those of steps between.
    """

    said: list[tuple[Sequence, TokenEvent]]
    filled: list[tuple[Sequence, list[BlockData]]]
    tokens: int = 0
    pairs: float = 0.0
    seconds: float = 0.0
    leaving: list[tuple[Sequence, Stored]] = field(default_factory=list)

    @property
    def stuck(self) -> list[Sequence]:
        """Those whose grammar has no next token: what they sampled is nothing."""
        return [sequence for sequence, _ in self.said if sequence.trouble]


class Engine:
    """Sequences, their KV, and the step. `eos` ends sequences.

    With `exports`, steps hand out the blocks that they fill; a `sink` gets them while they are computed, and the tails
    of prompts, too. By `keeping`, whole blocks stay for sequences to come.

    A step runs as up to `micro_batches` forward passes of at least `micro_batch_tokens` tokens that take turns:
    while one waits for its experts, the other computes attention (xDeepServe, 2508.02520, and MegaScale-Infer).
    """

    def __init__(
        self,
        half: AttentionHalf,
        cache: KVCache,
        batch: Batch,
        hop: Hop,
        compute: ComputeThread,
        *,
        eos: tuple[int, ...],
        micro_batches: int = 1,
        micro_batch_tokens: int = 1,
        exports: bool = True,
        sink: Sink | None = None,
        keeping: Keeping | None = None,
        traces: StepTraces | None = None,
    ) -> None:
        self._half = half
        self._cache = cache
        self.batch = batch
        self._passes = Passes(half, cache, hop)
        self._compute = compute
        self._eos = eos
        self.micro_batches = micro_batches
        self.micro_batch_tokens = micro_batch_tokens
        self._wants_blocks, self._sink = exports, sink
        self.tables = Tables(cache, keeping or Keeping())
        self.sequences: dict[str, Sequence] = {}
        self._traces = traces or StepTraces(Tracer(), 1, chunks=False)
        self.steps_between = 0
        self._between, self._between_seconds = asyncio.Lock(), 0.0
        self._busy: Counter[str] = Counter()
        self._leaving: set[str] = set()

    def open(self, sequence: Sequence, longest: int) -> None:
        """Reserve a slot and KV room for at most `longest` tokens. Raises TooLong, BadPrompt, Full.

        Blocks that are kept of what it begins with become its own, too.
        """
        self.check(sequence, longest)
        if sequence.id in self.sequences or not self.batch.can_reserve(longest):
            raise Full("no free slot or KV room")
        self.tables.take(sequence, self.batch.reserve(sequence.id, longest))
        self.sequences[sequence.id] = sequence

    def check(self, sequence: Sequence, longest: int) -> None:
        """Could it ever run here? Raises TooLong, BadPrompt."""
        tokens, vocab = (*sequence.prompt, *sequence.generated), self._half.config.vocab
        if self.batch.never_fits(longest) or longest > self._half.config.max_positions:
            raise TooLong(f"{longest} tokens are more than this worker can hold")
        if not sequence.prompt or max(tokens) >= vocab:
            raise BadPrompt(f"a prompt is one or more tokens below {vocab}")

    async def join(
        self, sequence: Sequence, candidates: Seq[BlockRef], found: dict[bytes, BlockData]
    ) -> bool:
        """Import what the pool had and let the sequence run; at least its last token is always computed.

        False: it left meanwhile, and does not run.
        """
        if self.sequences.get(sequence.id) is not sequence:  # left while its blocks were on their way
            return False
        begin = sequence.kept * BLOCK_TOKENS
        prefix = covering(candidates, found, begin)
        with self._using([sequence.id]):
            if prefix:  # or nothing is to be waited for
                await self._compute.run(self._import, sequence, [found[ref.name] for ref in prefix])
        if self.sequences.get(sequence.id) is not sequence:  # left while they were copied
            return False
        full = [ref for ref in prefix if ref.full]
        self.tables.keep(sequence, full)
        sequence.loaded = min(prefix[-1].end if prefix else begin, sequence.known - 1)
        sequence.named = sequence.kept + len(full)
        self.batch.join(sequence.id, sequence.known, sequence.loaded, sequence.tenant, sequence.priority)
        return True

    def _import(self, sequence: Sequence, blocks: list[BlockData]) -> None:
        for block, data in zip(sequence.table[sequence.kept :], blocks, strict=False):
            self._cache.import_block(block, data.data.data, data.tokens)

    @contextmanager
    def _using(self, ids: Iterable[str]) -> Iterator[None]:
        """Their blocks are in the compute thread's hands: whoever leaves meanwhile is closed afterwards."""
        taken = list(ids)
        self._busy.update(taken)
        try:
            yield
        finally:
            self._busy -= Counter(taken)
            for id in self._leaving.difference(self._busy):
                self._leaving.discard(id)
                self.close(id)

    def close(self, id: str) -> None:
        """Free the slot and the blocks, at once or, if the compute thread is using them, right after that."""
        if id in self._busy:
            self._leaving.add(id)
            return
        sequence = self.sequences.pop(id, None)
        if sequence is not None:
            self.batch.leave(id)
            self.tables.leave(sequence)
            self._traces.leave(id)
            sequence.trace.leaves(len(sequence.generated))

    async def step(self) -> Step | None:
        """Run the next step; None if there is nothing to run. Raises what the hop raises, and then nothing advanced."""
        async with self._between:  # or it would be computed whenever that one waits for its experts
            works = self.batch.next_step()
        before = self._between_seconds
        step = await self._run(works)
        if step is None or before == self._between_seconds:
            return step
        return replace(step, seconds=step.seconds - (self._between_seconds - before))

    async def step_between(self) -> Step | None:
        """Run what need not wait for the end of the step that runs, which waits meanwhile; as `step` does."""
        async with self._between:
            step = await self._run(self.batch.next_between())
            if step is not None:
                self.steps_between += 1
                self._between_seconds += step.seconds
            return step

    async def _run(self, works: list[Work]) -> Step | None:
        if not works:
            return None
        with self.batch.under_way(works), self._using(work.id for work in works):
            sequences = [self.sequences[work.id] for work in works]
            segments = [
                seq.segment(work.start, work.count) for seq, work in zip(sequences, works, strict=True)
            ]
            ends = [seq for seq, segment in zip(sequences, segments, strict=True) if segment.wants_logits]
            parts = micro_batches([work.count for work in works], self.micro_batches, self.micro_batch_tokens)
            full = [(self.sequences[work.id], self._became_full(work)) for work in works]
            began = time.monotonic()
            with self._traces.step(works, sequences) as told, self._exports(full, ends) as exports:
                sampled = await self._compute.run(
                    self._compute_step, [segments[part] for part in parts], ends, exports, told
                )
            seconds = time.monotonic() - began
            said = [(seq, seq.add(one, self._eos)) for seq, one in zip(ends, sampled, strict=True)]
            for work in works:
                self.batch.ran(work, self.sequences[work.id] in ends)
            for sequence, refs in full:
                self.tables.keep(sequence, refs)
            tokens = sum(work.count for work in works)
            pairs = sum(pairs_of(work.count, work.start) for work in works)
            return Step(said, exports.data, tokens, pairs, seconds, exports.leaving)

    def _exports(self, full: Filled, ends: list[Sequence]) -> Exports:
        if self._sink is not None:
            return ByLayers(self._cache, full, ends, self._sink)
        return WholeBlocks(self._cache, full if self._wants_blocks else [])

    def _compute_step(
        self, batches: list[list[Segment]], ends: list[Sequence], exports: Exports, told: Part
    ) -> list[Sampled]:
        """On the thread: what the sequences in `ends` say. Runs where another step waits for its experts, too."""
        with self._traces.hops.of(told):
            sampled = self._sample(ends, self._passes.run(batches, exports.finished))
            exports.end()
            return sampled

    def wanted(self, id: str) -> bool:
        """Is the sequence here, and not about to leave?"""
        return id in self.sequences and id not in self._leaving

    def _sample(self, sequences: list[Sequence], logits: torch.Tensor) -> list[Sampled]:
        params = [to_sampling(seq.spec, self._eos) for seq in sequences]
        free = all(seq.guide is None for seq in sequences)
        if params and free and all(p.greedy and not p.edits and p.logprobs <= 0 for p in params):
            return sample_greedy(logits)
        return [seq.draw(row, p) for row, p, seq in zip(logits, params, sequences, strict=True)]

    def _became_full(self, work: Work) -> list[BlockRef]:
        """Blocks that `work` fills."""
        sequence, done = self.sequences[work.id], work.start + work.count
        if done // BLOCK_TOKENS <= sequence.named:
            return []
        refs = sequence.full_refs(done)
        first, sequence.named = sequence.named, len(refs)
        return refs[first:]

    async def tail(self, sequence: Sequence) -> list[BlockData]:
        """The prompt's last block where it is not full, and no sink has had it."""
        tail = sequence.tail()
        if tail is None or self._sink is not None:
            return []
        with self._using([sequence.id]):
            return await self.export(sequence, [tail])

    async def export(self, sequence: Sequence, refs: Iterable[BlockRef]) -> list[BlockData]:
        """The data of these blocks of its table, which somebody has to hold."""
        return await self._compute.run(exported, self._cache, sequence, refs)

    async def measure(self, count: int, after: int) -> float:
        """Seconds that a step of `count` tokens behind `after` others takes. Raises Full, and what the hop raises."""
        with self._spare(count + after) as table:
            piece = Segment([0] * count, after, table, wants_logits=True)
            began = time.monotonic()
            await self._compute.run(self._passes.run, [[piece]])
            return time.monotonic() - began

    @contextmanager
    def _spare(self, tokens: int) -> Iterator[list[int]]:
        """A block table for nobody's tokens, for a moment."""
        name = f"nobody's {tokens}"
        if not self.batch.can_reserve(tokens):
            raise Full("no free slot or KV room")
        try:
            with self.tables.spare(self.batch.reserve(name, tokens)) as table:
                yield table
        finally:
            self.batch.leave(name)
