"""The whole model in one process: the oracle that every pod is compared with. It knows no network.

It is written for plainness: sequences are prefilled in chunks, then decoded together, one token a step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from xpod_model.attention_half import AttentionHalf, Segment
from xpod_model.checkpoint import Checkpoint
from xpod_model.experts import ExpertSet
from xpod_model.kv import KVCache
from xpod_model.sampler import Sampled, Sampling, sample


@dataclass
class _Sequence:
    prompt: list[int]
    sampling: Sampling
    blocks: list[int]
    done: int = 0
    drawn: list[Sampled] = field(default_factory=list)

    @property
    def generated(self) -> list[int]:
        return [sampled.token for sampled in self.drawn]

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.generated


class Reference:
    """A model with all of its experts. `chunk` is how many prompt tokens a prefill step takes at most."""

    def __init__(self, half: AttentionHalf, experts: ExpertSet) -> None:
        self.half, self.experts = half, experts
        self.config = half.config

    @classmethod
    def load(cls, directory: Path, dtype: str = "auto", device: str = "cpu") -> "Reference":
        """Load everything; raises ModelError for a bad checkpoint."""
        checkpoint = Checkpoint.open(Path(directory))
        half = AttentionHalf.load(checkpoint, dtype, device)
        experts = ExpertSet(checkpoint, dtype, device)
        experts.load_all()
        return cls(half, experts)

    def step(self, segments: Sequence[Segment], cache: KVCache) -> Tensor:
        """One forward with its experts run here: logits fp32 [segments that want them, V]."""
        forward = self.half.forward(segments, cache)
        try:
            batch = next(forward)
            while True:
                batch = forward.send(self.run_experts(batch.layer, batch.rows, batch.experts))
        except StopIteration as stop:
            logits: Tensor = stop.value
            return logits

    def run_experts(self, layer: int, rows: Tensor, experts: Tensor) -> Tensor:
        """rows [T, D], experts [T, K] -> [T, K, D]"""
        count, k = experts.shape
        row_of = torch.arange(count, device=rows.device).repeat_interleave(k)
        return self.experts.run(layer, rows, row_of, experts.flatten()).view(count, k, -1)

    def logits(self, prompt_ids: Sequence[int]) -> Tensor:
        """Logits at every position of a prompt, fp32 [T, V], one token a step: slow, and without chunking."""
        cache = self._cache(len(prompt_ids))
        blocks = cache.alloc(cache.num_blocks)
        rows = [self.step([Segment([token], i, blocks)], cache) for i, token in enumerate(prompt_ids)]
        return torch.cat(rows)

    def generate(
        self, prompt_ids: Sequence[int], sampling: Sampling, max_tokens: int, *, chunk: int = 512
    ) -> list[Sampled]:
        """Up to max_tokens tokens, ending after one of sampling.eos_token_ids."""
        return self.generate_batch([prompt_ids], [sampling], max_tokens, chunk=chunk)[0]

    def generate_batch(
        self,
        prompts: Sequence[Sequence[int]],
        samplings: Sequence[Sampling],
        max_tokens: int,
        *,
        chunk: int = 512,
    ) -> list[list[Sampled]]:
        """The same for several prompts, which share every step."""
        lengths = [len(prompt) + max_tokens for prompt in prompts]
        cache = self._cache(*lengths)
        sequences = [
            _Sequence(list(prompt), sampling, cache.alloc(cache.spec.blocks_for(length)))
            for prompt, sampling, length in zip(prompts, samplings, lengths, strict=True)
        ]
        active = list(sequences) if max_tokens > 0 else []
        while active:
            self._advance(active, cache, chunk)
            active = [s for s in active if not _finished(s, max_tokens)]
        return [sequence.drawn for sequence in sequences]

    def _advance(self, active: list[_Sequence], cache: KVCache, chunk: int) -> None:
        segments = []
        for s in active:
            tokens = s.tokens[s.done : s.done + chunk]
            segments.append(Segment(tokens, s.done, s.blocks, s.done + len(tokens) == len(s.tokens)))
            s.done += len(tokens)
        logits = iter(self.step(segments, cache))
        for s, segment in zip(active, segments, strict=True):
            if segment.wants_logits:
                s.drawn.append(sample(next(logits), s.sampling, len(s.tokens), s.prompt, s.generated))

    def _cache(self, *lengths: int) -> KVCache:
        spec = self.half.kv_spec()
        return KVCache(spec, sum(spec.blocks_for(length) for length in lengths), self.half.device)


def _finished(s: _Sequence, max_tokens: int) -> bool:
    return bool(s.drawn) and (len(s.drawn) >= max_tokens or s.drawn[-1].token in s.sampling.eos_token_ids)
