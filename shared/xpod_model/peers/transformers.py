"""Hugging Face transformers as a peer: `python -m xpod_model.peers.transformers --model DIR --threads N`.

Knows: how its `generate` is made greedy, of an exact length, and watched step by step. All else is its default.
Does not know: xpod's own engine.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM
from transformers.generation.streamers import BaseStreamer

from xpod_model.peers.protocol import Facts, Options, serve


class Steps(BaseStreamer):
    """Is shown the prompts first, then the new tokens of each step."""

    def __init__(self, stepped: Callable[[], None]) -> None:
        self._stepped = stepped
        self._prompts_seen = False

    def put(self, value: Any) -> None:
        if self._prompts_seen:
            self._stepped()
        self._prompts_seen = True

    def end(self) -> None:
        """The last token was told already."""


class Transformers:
    """A causal language model in bf16."""

    def __init__(self, options: Options) -> None:
        torch.set_num_threads(options.threads)
        model: Any = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.bfloat16)
        self._model = model.eval()
        self.facts: Facts = {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "dtype": str(model.dtype),
            "attention": str(model.config._attn_implementation),
            "experts": str(model.config._experts_implementation),
        }

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, stepped: Callable[[], None]
    ) -> None:
        ids = torch.tensor(prompts)
        self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            min_new_tokens=new_tokens,
            max_new_tokens=new_tokens,
            streamer=Steps(stepped),
        )


if __name__ == "__main__":
    sys.exit(serve(Transformers))
