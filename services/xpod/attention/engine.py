"""A worker's engine: it steps a batch of sequences, one forward pass a step, experts over the hop.

    schedule → run → sample → account

The same engine serves prefill (sequences leave after token 0) and decode (they stay until they finish). All
torch work happens on the worker's compute thread; between steps, sequences join and leave.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from xpod.attention.hop import Hop
from xpod.attention.passes import Passes
from xpod.attention.pool import block_data
from xpod.attention.sequence import Sequence, to_sampling
from xpod_model.attention_half import AttentionHalf, Segment
from xpod_model.kv import KVCache
from xpod_model.sampler import Sampled, sample, sample_greedy
from xpod_policy.batch import Batch, Work, micro_batches
from xpod_policy.blocks import BLOCK_TOKENS, BlockRef, block_refs, covering
from xpod_proto import BlockData, TokenEvent
from xpod_runtime.compute import ComputeThread
from xpod_runtime.errors import XpodError


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
    """What one step did: sequences with the token that each of them sampled, and blocks that became full."""

    said: list[tuple[Sequence, TokenEvent]]
    filled: list[tuple[Sequence, list[BlockData]]]


class Engine:
    """Sequences, their KV, and the step. `root` is the namespace of block names; `eos` ends sequences.

    With `exports`, steps hand out the blocks that they fill.

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
        root: bytes,
        eos: tuple[int, ...],
        micro_batches: int = 1,
        micro_batch_tokens: int = 1,
        exports: bool = True,
    ) -> None:
        self._half = half
        self._cache = cache
        self.batch = batch
        self._passes = Passes(half, cache, hop)
        self._compute = compute
        self._root = root
        self._eos = eos
        self.micro_batches = micro_batches
        self.micro_batch_tokens = micro_batch_tokens
        self._exports = exports
        self.sequences: dict[str, Sequence] = {}
        self._busy: set[str] = set()
        self._leaving: set[str] = set()

    def open(self, sequence: Sequence, longest: int) -> None:
        """Reserve a slot and KV room for at most `longest` tokens. Raises TooLong, BadPrompt, Full."""
        self.check(sequence, longest)
        if sequence.id in self.sequences or not self.batch.can_reserve(longest):
            raise Full("no free slot or KV room")
        sequence.table = self._cache.alloc(self.batch.reserve(sequence.id, longest))
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
        prefix = covering(candidates, found)
        with self._using([sequence.id]):
            await self._compute.run(self._import, sequence, [found[ref.name] for ref in prefix])
        if self.sequences.get(sequence.id) is not sequence:  # left while they were copied
            return False
        covered = prefix[-1].end if prefix else 0
        sequence.loaded = min(covered, sequence.known - 1)
        sequence.stored = sum(ref.full for ref in prefix)
        self.batch.join(sequence.id, sequence.known, sequence.loaded)
        return True

    def _import(self, sequence: Sequence, blocks: list[BlockData]) -> None:
        for block, data in zip(sequence.table, blocks, strict=False):
            self._cache.import_block(block, data.data.data, data.tokens)

    @contextmanager
    def _using(self, ids: Iterable[str]) -> Iterator[None]:
        """Their blocks are in the compute thread's hands: whoever leaves meanwhile is closed afterwards."""
        taken = set(ids)
        self._busy |= taken
        try:
            yield
        finally:
            self._busy -= taken
            leaving = self._leaving & taken
            self._leaving -= taken
            for id in leaving:
                self.close(id)

    def close(self, id: str) -> None:
        """Free the slot and the blocks, at once or, if the compute thread is using them, right after that."""
        if id in self._busy:
            self._leaving.add(id)
            return
        sequence = self.sequences.pop(id, None)
        if sequence is not None:
            self.batch.leave(id)
            self._cache.free(sequence.table)

    async def step(self) -> Step | None:
        """Run the next step; None if there is nothing to run. Raises what the hop raises, and then nothing advanced."""
        works = self.batch.next_step()
        if not works:
            return None
        with self._using(work.id for work in works):
            sequences = [self.sequences[work.id] for work in works]
            segments = [
                seq.segment(work.start, work.count) for seq, work in zip(sequences, works, strict=True)
            ]
            ends = [seq for seq, segment in zip(sequences, segments, strict=True) if segment.wants_logits]
            parts = micro_batches([work.count for work in works], self.micro_batches, self.micro_batch_tokens)
            exported = works if self._exports else []
            full = [(self.sequences[work.id], self._became_full(work)) for work in exported]
            sampled, filled = await self._compute.run(
                self._compute_step, [segments[part] for part in parts], ends, [blocks for _, blocks in full]
            )
            said = [(seq, seq.add(one, self._eos)) for seq, one in zip(ends, sampled, strict=True)]
            for work in works:
                self.batch.ran(work, self.sequences[work.id] in ends)
            stored = [(seq, data) for (seq, _), data in zip(full, filled, strict=True) if data]
            return Step(said, stored)

    def _compute_step(
        self, batches: list[list[Segment]], ends: list[Sequence], full: list[list[tuple[BlockRef, int]]]
    ) -> tuple[list[Sampled], list[list[BlockData]]]:
        """On the thread: what the sequences in `ends` say, and the data of the blocks that became full."""
        sampled = self._sample(ends, self._passes.run(batches))
        return sampled, [self._export_all(blocks) for blocks in full]

    def wanted(self, id: str) -> bool:
        """Is the sequence here, and not about to leave?"""
        return id in self.sequences and id not in self._leaving

    def _sample(self, sequences: list[Sequence], logits: torch.Tensor) -> list[Sampled]:
        params = [to_sampling(seq.spec, self._eos) for seq in sequences]
        if params and all(p.greedy and not p.edits and p.logprobs <= 0 for p in params):
            return sample_greedy(logits)
        return [
            sample(row, p, seq.known, seq.prompt, seq.generated)
            for row, p, seq in zip(logits, params, sequences, strict=True)
        ]

    def _became_full(self, work: Work) -> list[tuple[BlockRef, int]]:
        """Blocks that `work` filled, with their place in the cache."""
        sequence, done = self.sequences[work.id], work.start + work.count
        if done // BLOCK_TOKENS <= sequence.stored:
            return []
        refs = sequence.full_refs(self._root, done)
        first, sequence.stored = sequence.stored, len(refs)
        return list(zip(refs[first:], sequence.table[first:], strict=False))

    async def tail(self, sequence: Sequence) -> list[BlockData]:
        """The prompt's last block where it is not full."""
        ref = block_refs(self._root, sequence.prompt)[-1]
        if ref.full:
            return []
        return await self._export([(ref, sequence.table[ref.start // BLOCK_TOKENS])])

    async def _export(self, blocks: list[tuple[BlockRef, int]]) -> list[BlockData]:
        return await self._compute.run(self._export_all, blocks)

    def _export_all(self, blocks: list[tuple[BlockRef, int]]) -> list[BlockData]:
        return [block_data(ref, self._cache.export_block(block, ref.tokens).data) for ref, block in blocks]
