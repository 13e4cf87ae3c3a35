"""The reference as a peer: `python -m xpod_model.peers.reference --model DIR --threads N`.

Knows: when a token of the reference is there: once the next step begins, or all is done.
Does not know: pods. What a pod does less than this whole model in one process is what its network, processes and
scheduling cost.
"""

import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from xpod_model.attention_half import Segment
from xpod_model.kv import KVCache
from xpod_model.memory import keep_freed_memory
from xpod_model.peers.protocol import Facts, Options, serve
from xpod_model.reference import Reference
from xpod_model.sampler import Sampling

CHUNK = 512


class Watched(Reference):
    """Calls `stepped` when every sequence has one more token; they all have prompts of one length."""

    stepped: Callable[[], None]
    _drawing = False

    def step(self, segments: Sequence[Segment], cache: KVCache) -> Tensor:
        self.drawn()
        self._drawing = all(segment.wants_logits for segment in segments)
        return super().step(segments, cache)

    def drawn(self) -> None:
        """Tokens of the step before are there, if it had any."""
        if self._drawing:
            self.stepped()
        self._drawing = False


class OneProcess:
    """The reference, greedy."""

    def __init__(self, options: Options) -> None:
        keep_freed_memory()
        torch.set_num_threads(options.threads)
        loaded = Reference.load(options.model)
        self._model = Watched(loaded.half, loaded.experts)
        self.facts: Facts = {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "dtype": self._model.half.kv_spec().dtype,
            "chunk": CHUNK,
        }

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, stepped: Callable[[], None]
    ) -> None:
        self._model.stepped = stepped
        greedy = [Sampling(temperature=0)] * len(prompts)
        self._model.generate_batch(prompts, greedy, new_tokens, chunk=CHUNK)
        self._model.drawn()


if __name__ == "__main__":
    sys.exit(serve(OneProcess))
