"""The pod over real NATS gives transformers' greedy tokens, on every small checkpoint.

The judge computes in float64. Where it sees two experts as close as rounding, others may choose either one, as
transformers does in float32, and all that follows is another text: from there on nothing is compared.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen3MoeForCausalLM

from model.oracle_models import EOS, RECIPES, VOCAB
from pod.harness import Shape, greedy, running_pod
from xpod.router.api.engine_protocol import Output

PROMPTS, NEW = 20, 64
DOUBT = 5e-5
"""Between the last expert that is chosen and the first that is not, in logits of about 1."""
SHAPE = Shape(expert=3, prefill=2, decode=2, mempool=2, router=1, supervisor=2)


def prompts(seed: int) -> list[list[int]]:
    """Lengths around the block size and beyond a prefill chunk."""
    random_ids = random.Random(seed)
    lengths = [1, 2, 15, 16, 17, 31, 32, 33, 48, 65] + [
        random_ids.randint(3, 90) for _ in range(PROMPTS - 10)
    ]
    return [[random_ids.randrange(VOCAB - 4) for _ in range(length)] for length in lengths]


@torch.inference_mode()
def judged(model: Qwen3MoeForCausalLM, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """transformers' logits [N, V] at the first N places where the answer was chosen, until a gate is in doubt."""
    judgement = model(torch.tensor([prompt + answer]), output_router_logits=True)
    chosen = model.config.num_experts_per_tok
    doubtful = torch.zeros(len(prompt) + len(answer), dtype=torch.bool)
    for gate in judgement.router_logits:
        if gate.shape[-1] > chosen:
            best = gate.topk(chosen + 1).values
            doubtful |= best[:, -2] - best[:, -1] < DOUBT
    sure = int(doubtful.int().argmax()) if doubtful.any() else len(doubtful)
    logits: torch.Tensor = judgement.logits[0]
    return logits[len(prompt) - 1 : max(len(prompt) - 1, min(sure, len(doubtful) - 1))]


def full_logprobs(outputs: list[Output]) -> np.ndarray:
    rows = np.empty((len(outputs), VOCAB), np.float64)
    for row, output in zip(rows, outputs, strict=True):
        ids, values = zip(*output.top, strict=True)
        row[list(ids)] = values
    return rows


@pytest.mark.parametrize("name", [recipe.name for recipe in RECIPES])
async def test_pod_equals_transformers(nats: str, oracle_dirs: dict[str, Path], name: str) -> None:
    oracle = Qwen3MoeForCausalLM.from_pretrained(
        oracle_dirs[name], dtype=torch.float64, experts_implementation="eager"
    ).eval()
    asked = prompts(len(name))
    spec = greedy(NEW, ignore_eos=True, logprobs=VOCAB)
    async with running_pod(nats, oracle_dirs[name], SHAPE, dtype="fp32", max_num_batched_tokens=24) as pod:
        answers = await asyncio.gather(*(pod.generate(prompt, spec) for prompt in asked))
    kinds: list[int] = []
    compared = 0
    for prompt, outputs in zip(asked, answers, strict=True):
        tokens = [output.token for output in outputs]
        assert len(tokens) == NEW
        logits = judged(oracle, prompt, tokens)
        sure = len(logits)
        compared += sure
        if not sure:
            continue
        assert tokens[:sure] == logits.argmax(-1).tolist()
        expected = torch.log_softmax(logits, -1).numpy()
        spread = float(logits.max() - logits.min())
        assert np.abs(full_logprobs(outputs[:sure]) - expected).max() <= 1e-4 * spread
        kinds.append(len(set(tokens)))
    assert compared >= 0.9 * PROMPTS * NEW
    # streams that repeat themselves would make the check weak
    assert min(kinds) > 3
    assert sum(count > 8 for count in kinds) >= 0.9 * PROMPTS


def test_the_end_token_is_in_the_vocabulary() -> None:
    assert EOS < VOCAB
