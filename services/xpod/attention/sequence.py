"""One sequence on a worker: its facts, its KV blocks, and what it has said so far."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from xpod.attention.sequence_trace import UNTRACED, SequenceTrace
from xpod_model.attention_half import Segment
from xpod_model.errors import GrammarError
from xpod_model.guide import Guide
from xpod_model.sampler import Sampled, Sampling, sample
from xpod_model.scores import Scores
from xpod_policy.blocks import BLOCK_TOKENS, BlockRef
from xpod_policy.caching import Naming
from xpod_policy.finish import finish_reason
from xpod_proto import SamplingSpec, TokenEvent


@dataclass(slots=True, eq=False)
class Sequence:
    """`prompt` and `generated` are token ids; `table` is the KV block table; `named` counts its whole blocks so far.

    `kept` blocks of the table were there before it came; the KV of `loaded` tokens it did not have to compute. `guide`
    knows which tokens may come next; `trouble` says why none can. Tenants' prompts are computed in turn, the lowest
    `priority` of each tenant's first. Where `scores` are wanted, nothing of the prompt is taken from a cache.
    """

    id: str
    epoch: int
    router: str
    prompt: list[int]
    generated: list[int]
    spec: SamplingSpec
    naming: Naming
    table: list[int] = field(default_factory=list)
    kept: int = 0
    loaded: int = 0
    named: int = 0
    coming: tuple[bytes, ...] = ()
    guide: Guide | None = None
    trouble: str = ""
    tenant: str = ""
    priority: int = 0
    scores: Scores | None = None
    events: list[TokenEvent] = field(default_factory=list)
    chain: list[BlockRef] = field(default_factory=list)
    trace: SequenceTrace = UNTRACED

    @property
    def known(self) -> int:
        """Tokens known: prompt and generated."""
        return len(self.prompt) + len(self.generated)

    def tokens(self, start: int, stop: int) -> list[int]:
        """Tokens at positions start … stop - 1."""
        split = len(self.prompt)
        if start >= split:
            return self.generated[start - split : stop - split]
        return self.prompt[start:stop] + self.generated[: max(0, stop - split)]

    def segment(self, start: int, count: int) -> Segment:
        """The piece of work that computes `count` tokens from `start`; it wants logits if it reaches the end."""
        stop = start + count
        tokens, ends = self.tokens(start, stop), stop == self.known
        return Segment(tokens, start, self.table, wants_logits=ends, scores=self.scores)

    def full_refs(self, done: int) -> list[BlockRef]:
        """The full blocks among the first `done` tokens; each is hashed once in the sequence's life."""
        while (start := len(self.chain) * BLOCK_TOKENS) + BLOCK_TOKENS <= done:
            self.chain.append(self._ref(start, start + BLOCK_TOKENS))
        return self.chain[: done // BLOCK_TOKENS]

    def tail(self) -> BlockRef | None:
        """The prompt's last block, where it is not full."""
        end = len(self.prompt)
        start = end // BLOCK_TOKENS * BLOCK_TOKENS
        self.full_refs(start)
        return self._ref(start, end) if start < end else None

    def loadable(self) -> list[BlockRef]:
        """Blocks that MemPool may have of what must be known: full ones, and the prompt's partial tail."""
        if self.scores is not None:
            return []
        tail = self.tail()
        full = self.full_refs(self.known)
        return full if tail is None else [*full, tail]

    def sharable(self) -> list[BlockRef]:
        """Full blocks that need not be its own: nothing of them is left to compute."""
        if self.scores is not None:
            return []
        return self.full_refs(self.known - 1)

    def _ref(self, start: int, end: int) -> BlockRef:
        index = start // BLOCK_TOKENS
        parent = self.chain[index - 1].name if index else self.naming.root
        return BlockRef(self.naming.name(parent, self.tokens(start, end), end), start, end - start)

    def draw(self, logits: Tensor, params: Sampling) -> Sampled:
        """The next token, from logits [V]. Where a grammar has none, there is `trouble`, and any token."""
        try:
            allowed = None if self.guide is None else torch.from_numpy(self.guide.allowed()).to(logits.device)
            sampled = sample(logits, params, self.known, self.prompt, self.generated, allowed=allowed)
            if self.guide is not None:
                self.guide.advance(sampled.token)
        except GrammarError as error:
            self.trouble = str(error)
            return Sampled(0, 0.0)
        return sampled

    def add(self, sampled: Sampled, eos: tuple[int, ...]) -> TokenEvent:
        """Append a sampled token and return what to say about it."""
        index = len(self.generated)
        spec = self.spec
        finish = finish_reason(
            sampled.token,
            index,
            max_tokens=spec.max_tokens,
            min_tokens=spec.min_tokens,
            ignore_eos=spec.ignore_eos,
            eos=eos,
            stops=spec.stop_token_ids,
        )
        self.generated.append(sampled.token)
        cached = self.loaded if index == 0 else 0
        event = TokenEvent(
            self.id, self.epoch, index, sampled.token, sampled.logprob, finish, sampled.top, cached
        )
        self.events.append(event)
        return event


def to_sampling(spec: SamplingSpec, eos: tuple[int, ...]) -> Sampling:
    """The sampler's parameters from the wire's."""
    return Sampling(
        temperature=spec.temperature,
        top_p=spec.top_p,
        top_k=spec.top_k,
        min_p=spec.min_p,
        repetition_penalty=spec.repetition_penalty,
        presence_penalty=spec.presence_penalty,
        frequency_penalty=spec.frequency_penalty,
        logit_bias=spec.logit_bias,
        seed=spec.seed,
        min_tokens=spec.min_tokens,
        eos_token_ids=tuple(dict.fromkeys((*eos, *spec.stop_token_ids))),
        logprobs=spec.logprobs,
    )
