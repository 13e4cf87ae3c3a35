"""An engine whose tokens are the demo model's own: the one-process reference, with the sampler and the guides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import torch

from router.api_fakes import FakeEngine, FakeSession
from xpod.attention.sequence import to_sampling
from xpod.router.api.engine_protocol import Affinity, Claim, Output
from xpod_model.attention_half import Segment
from xpod_model.demo import demo_path
from xpod_model.guide import Grammars
from xpod_model.reference import Reference
from xpod_model.sampler import sample
from xpod_policy.finish import finish_reason
from xpod_proto import SamplingSpec


class ReferenceSession(FakeSession):
    """One generation, computed as it is read."""

    def __init__(self, name: str, engine: ReferenceEngine, prompt: list[int], sampling: SamplingSpec) -> None:
        super().__init__(name, (), sampling)
        self._engine, self._prompt = engine, prompt

    async def __aiter__(self) -> AsyncIterator[Output]:
        for output in self._outputs():
            yield output
            await asyncio.sleep(0)

    def _outputs(self) -> Iterator[Output]:
        engine, spec = self._engine, self.sampling
        model, eos = engine.model, engine.eos_token_ids
        cache = model._cache(len(self._prompt) + spec.max_tokens)
        blocks = cache.alloc(cache.num_blocks)
        guide = engine.grammars.guide(spec.grammar) if spec.grammar else None
        tokens, new = list(self._prompt), list(self._prompt)
        while True:
            position = len(tokens)
            (logits,) = model.step([Segment(new, position - len(new), blocks, True)], cache)
            allowed = None if guide is None else torch.from_numpy(guide.allowed())
            drawn = sample(
                logits,
                to_sampling(spec, eos),
                position,
                self._prompt,
                tokens[len(self._prompt) :],
                allowed=allowed,
            )
            index = position - len(self._prompt)
            finish = finish_reason(
                drawn.token,
                index,
                max_tokens=spec.max_tokens,
                min_tokens=spec.min_tokens,
                ignore_eos=spec.ignore_eos,
                eos=eos,
                stops=spec.stop_token_ids,
            )
            yield Output(index, drawn.token, drawn.logprob, drawn.top, finish)
            if finish:
                return
            if guide is not None:
                guide.advance(drawn.token)
            new = [drawn.token]
            tokens += new


class ReferenceEngine(FakeEngine):
    """The demo model."""

    max_model_len = 512

    def __init__(self) -> None:
        super().__init__()
        torch.set_num_threads(1)
        self.model = Reference.load(demo_path())
        self.vocab_size = self.model.config.vocab
        self.eos_token_ids = self.model.config.eos_token_ids
        self.grammars = Grammars(demo_path(), self.vocab_size, self.eos_token_ids)

    async def open(
        self,
        prompt: list[int],
        sampling: SamplingSpec,
        claim: Claim | None = None,
        affinity: Affinity | None = None,
    ) -> ReferenceSession:
        """As the router's engine opens it."""
        self.opened.append((prompt, sampling))
        self.claims.append(claim)
        self.affinities.append(affinity or Affinity())
        return ReferenceSession(f"s{len(self.opened)}", self, prompt, sampling)
