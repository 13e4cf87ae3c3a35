"""A token depends on its sequence and nothing else: any batch, any chunking, any company gives the same bits."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.oracle_models import VOCAB
from xpod_model.attention_half import Segment
from xpod_model.kv import KVCache
from xpod_model.linear import INSTRUCTIONS, INSTRUCTIONS_VARIABLE
from xpod_model.reference import Reference
from xpod_model.sampler import Sampling

PROMPT = [random.Random(3).randrange(VOCAB) for _ in range(330)]


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def model(request: pytest.FixtureRequest, oracle_dirs: dict[str, Path]) -> Reference:
    return Reference.load(oracle_dirs["bias-llama3"], request.param)


def prefilled(model: Reference, chunks: list[int]) -> tuple[list[bytes], torch.Tensor]:
    """The KV blocks and last logits of PROMPT, computed in chunks of the given sizes, repeated."""
    cache = KVCache(model.half.kv_spec(), 40)
    blocks = list(reversed(cache.alloc(21)))
    done, logits = 0, torch.empty(0)
    while done < len(PROMPT):
        size = chunks[0]
        chunks = [*chunks[1:], size]
        logits = model.step([Segment(PROMPT[done : done + size], done, blocks)], cache)
        done += len(PROMPT[done : done + size])
    return [cache.export_block(block).tobytes() for block in blocks], logits


@pytest.mark.parametrize("chunks", [[1], [2], [3], [7], [16], [64], [100, 1, 5], [129]])
def test_chunking_changes_no_bit(model: Reference, chunks: list[int]) -> None:
    whole_kv, whole = prefilled(model, [len(PROMPT)])
    kv, logits = prefilled(model, chunks)
    assert kv == whole_kv
    assert torch.equal(logits, whole)


def test_company_changes_no_token(model: Reference) -> None:
    draw = random.Random(4)
    prompts = [PROMPT[:length] for length in (1, 5, 63, 64, 65, 250, 300)]
    samplings = [Sampling(temperature=draw.choice([0, 1.0]), seed=i, top_p=0.95) for i in range(len(prompts))]
    together = model.generate_batch(prompts, samplings, 20, chunk=64)
    alone = [model.generate(p, s, 20, chunk=7) for p, s in zip(prompts, samplings, strict=True)]
    assert together == alone


def test_a_moved_block_gives_the_same_logits(model: Reference) -> None:
    one, other = KVCache(model.half.kv_spec(), 24), KVCache(model.half.kv_spec(), 60)
    blocks, moved = one.alloc(21), other.alloc(30)[9:]
    expected = model.step([Segment(PROMPT, 0, blocks)], one)
    model.step([Segment(PROMPT[:-1], 0, blocks)], one)
    for source, target in zip(blocks[:20], moved, strict=False):
        other.import_block(target, one.export_block(source))
    tail = (len(PROMPT) - 1) % 16
    other.import_block(moved[20], one.export_block(blocks[20], tail), tail)
    assert torch.equal(model.step([Segment(PROMPT[-1:], len(PROMPT) - 1, moved)], other), expected)


def test_used_blocks_hold_no_trace(model: Reference) -> None:
    cache = KVCache(model.half.kv_spec(), 21)
    blocks = cache.alloc(21)
    expected = model.step([Segment(PROMPT, 0, blocks)], cache)
    for layer in cache.layers:
        layer[:, blocks] = float("nan")
    cache.free(blocks)
    assert torch.equal(model.step([Segment(PROMPT, 0, cache.alloc(21))], cache), expected)


def test_forwards_may_interleave(model: Reference) -> None:
    cache = KVCache(model.half.kv_spec(), 50)
    tables = [cache.alloc(21), cache.alloc(21)]
    halves = [[Segment(PROMPT[:100], 0, tables[0])], [Segment(PROMPT[100:150], 0, tables[1])]]
    expected = [model.step(segments, cache) for segments in halves]
    forwards = [model.half.forward(segments, cache) for segments in halves]
    batches = [next(forward) for forward in forwards]
    found: list[torch.Tensor] = []
    while len(found) < 2:
        for i, forward in enumerate(forwards):
            batch = batches[i]
            try:
                batches[i] = forward.send(model.run_experts(batch.layer, batch.rows, batch.experts))
            except StopIteration as stop:
                found.append(stop.value)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_two_threads_give_the_bits_of_one(model: Reference) -> None:
    kv, logits = prefilled(model, [len(PROMPT)])
    torch.set_num_threads(2)
    try:
        pairs = [prefilled(model, chunks) for chunks in ([len(PROMPT)], [64, 1, 100, 3])]
    finally:
        torch.set_num_threads(1)
    assert all(k == kv and torch.equal(other, logits) for k, other in pairs)


@pytest.mark.parametrize("asked", [None, "AVX2"])
def test_products_are_made_of_vectors_unless_somebody_wants_less(asked: str | None) -> None:
    """Tiles (AMX) take another order of sums for another number of rows: where there are some, all the above fails."""
    outer = {name: value for name, value in os.environ.items() if name != INSTRUCTIONS_VARIABLE}
    code = f"import os, xpod_model.linear; print(os.environ[{INSTRUCTIONS_VARIABLE!r}])"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=outer | ({INSTRUCTIONS_VARIABLE: asked} if asked else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == (asked or INSTRUCTIONS)
