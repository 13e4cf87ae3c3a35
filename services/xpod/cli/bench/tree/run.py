"""An index of many blocks, and prompts that are there, half there, and not there at all.

Knows: what a pod with two MemPool nodes and two prefill workers has in its routers' index.
Does not know: the bus; nothing here leaves the process.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np
import psutil

from xpod.cli.bench.figures import figures
from xpod_policy.block_index import BlockIndex
from xpod_policy.blocks import BLOCK_TOKENS, TOKEN_BYTES, names, namespace

Json = dict[str, Any]
NODES = ("mempool-0", "mempool-1")
WORKERS = ("prefill-0", "prefill-1")
VOCABULARY = 32_000
ROOT = namespace("bench")


@dataclass(frozen=True, slots=True)
class Plan:
    """Blocks in the index, tokens of each prompt, prompts matched of each case, and the seed of all token ids."""

    blocks: int
    tokens: int
    rounds: int
    seed: int


class TreeRun:
    """`measure` once, then `parts` are the figures."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._random = np.random.default_rng(plan.seed)
        per_prompt = -(-plan.tokens // BLOCK_TOKENS)
        self._prompts = [self._prompt() for _ in range(-(-plan.blocks // per_prompt))]
        self._said = [b"".join(names(ROOT, prompt)) for prompt in self._prompts]
        self._blocks = per_prompt
        self._found: Json = {}

    def measure(self) -> None:
        """Build the index twice, once for its time and once for its memory, and match every case by turns."""
        process = psutil.Process()
        gc.collect()
        before, began = process.memory_info().rss, perf_counter()
        index = self._built()
        took, after = perf_counter() - began, process.memory_info().rss
        times = self._times(index)
        self._found = {
            "index": {
                "blocks": len(index),
                "holders": len(index.holders),
                "build_s": round(took, 3),
                "bytes_per_block": round(self._traced() / len(index), 1),
                "rss_bytes_per_block": round((after - before) / len(index), 1),
            },
            "match_ms": {case: found.as_json() for case, each in times.items() if (found := figures(each))},
        }

    def parts(self) -> Json:
        return {"parameters": asdict(self._plan), **self._found}

    def _prompt(self) -> bytes:
        return self._random.integers(0, VOCABULARY, self._plan.tokens, dtype="<u4").tobytes()

    def _built(self) -> BlockIndex:
        """Both nodes have every block, each worker has every second prompt."""
        index = BlockIndex()
        for number, said in enumerate(self._said):
            for holder in (*NODES, WORKERS[number % len(WORKERS)]):
                index.add(holder, said)
        return index

    def _traced(self) -> int:
        """What an index asks of the allocator, in bytes."""
        tracemalloc.start()
        index = self._built()
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        del index
        return size

    def _times(self, index: BlockIndex) -> dict[str, list[float]]:
        """Milliseconds from a prompt's tokens to who has how much of it, names included."""
        half = self._blocks // 2
        cut = half * BLOCK_TOKENS * TOKEN_BYTES
        cases: dict[str, tuple[Callable[[bytes], bytes], int]] = {
            "whole": (lambda prompt: prompt, self._blocks),
            "half": (lambda prompt: prompt[:cut] + self._prompt()[cut:], half),
            "absent": (lambda prompt: self._prompt(), 0),
        }
        times: dict[str, list[float]] = {case: [] for case in cases}
        for _ in range(self._plan.rounds):
            known = self._prompts[int(self._random.integers(len(self._prompts)))]
            for case, (make, expected) in cases.items():
                prompt = make(known)
                began = perf_counter()
                found = index.match(names(ROOT, prompt), NODES)
                times[case].append((perf_counter() - began) * 1e3)
                assert found.together == expected == max(found.held.values(), default=0), case
        return times
