"""The pod over real NATS gives transformers' greedy tokens, on every small checkpoint."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from model.oracle_models import EOS, RECIPES, VOCAB
from pod.harness import Shape, greedy, running_pod
from xpod.router.api.engine_protocol import Output

PROMPTS, NEW = 20, 64
SHAPE = Shape(expert=3, prefill=2, decode=2, mempool=2, router=1, supervisor=2)


def prompts(seed: int) -> list[list[int]]:
    """Lengths around the block size and beyond a prefill chunk."""
    random_ids = random.Random(seed)
    lengths = [1, 2, 15, 16, 17, 31, 32, 33, 48, 65] + [
        random_ids.randint(3, 90) for _ in range(PROMPTS - 10)
    ]
    return [[random_ids.randrange(VOCAB - 4) for _ in range(length)] for length in lengths]


@torch.inference_mode()
def judged(model: torch.nn.Module, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """transformers' logits [len(answer), V] at the places where the answer was chosen."""
    ids = torch.tensor([prompt + answer])
    logits: torch.Tensor = model(ids).logits[0]
    return logits[len(prompt) - 1 : -1]


def full_logprobs(outputs: list[Output]) -> np.ndarray:
    rows = np.empty((len(outputs), VOCAB), np.float64)
    for row, output in zip(rows, outputs, strict=True):
        ids, values = zip(*output.top, strict=True)
        row[list(ids)] = values
    return rows


@pytest.mark.parametrize("name", [recipe.name for recipe in RECIPES])
async def test_pod_equals_transformers(nats: str, oracle_dirs: dict[str, Path], name: str) -> None:
    oracle = AutoModelForCausalLM.from_pretrained(oracle_dirs[name], dtype=torch.float32).eval()
    asked = prompts(len(name))
    spec = greedy(NEW, ignore_eos=True, logprobs=VOCAB)
    async with running_pod(nats, oracle_dirs[name], SHAPE, dtype="fp32", max_num_batched_tokens=24) as pod:
        answers = await asyncio.gather(*(pod.generate(prompt, spec) for prompt in asked))
    kinds: list[int] = []
    for prompt, outputs in zip(asked, answers, strict=True):
        tokens = [output.token for output in outputs]
        assert len(tokens) == NEW
        logits = judged(oracle, prompt, tokens)
        assert tokens == logits.argmax(-1).tolist()
        expected = torch.log_softmax(logits.double(), -1).numpy()
        spread = float(logits.max() - logits.min())
        assert np.abs(full_logprobs(outputs) - expected).max() <= 1e-4 * spread
        kinds.append(len(set(tokens)))
    # streams that repeat themselves would make the check weak
    assert min(kinds) > 3
    assert sum(count > 8 for count in kinds) >= 0.9 * PROMPTS


def test_the_end_token_is_in_the_vocabulary() -> None:
    assert EOS < VOCAB
