"""The engine without a pod: who leaves early must not touch blocks that are somebody else's by then."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np

from pod.harness import greedy
from xpod.attention.engine import Engine
from xpod.attention.hop import Hop
from xpod.attention.pool import block_data
from xpod.attention.sequence import Sequence
from xpod_model.attention_half import AttentionHalf
from xpod_model.checkpoint import Checkpoint
from xpod_model.kv import KVCache
from xpod_policy.batch import Batch
from xpod_policy.blocks import block_refs
from xpod_runtime.compute import ComputeThread

ROOT = b"root"


async def test_a_session_cancelled_while_its_blocks_travel_writes_nowhere(
    oracle_dirs: dict[str, Path],
) -> None:
    half = AttentionHalf.load(Checkpoint.open(oracle_dirs["plain"]), "fp32")
    cache = KVCache(half.kv_spec(), 4)
    compute = ComputeThread()
    engine = Engine(half, cache, Batch(4, 64, 4), cast(Hop, None), compute, root=ROOT, eos=())
    prompt = list(range(16))
    (ref,) = block_refs(ROOT, prompt)
    travelling = block_data(ref, bytes([1]) * cache.spec.bytes_per_block)

    early = Sequence("early", 0, "router-0", prompt, [1], greedy(4))
    engine.open(early, 64)
    engine.close("early")
    late = Sequence("late", 0, "router-0", prompt, [1], greedy(4))
    engine.open(late, 64)
    await engine.join(early, [ref], {ref.name: travelling})

    assert not any(np.any(cache.export_block(block)) for block in late.table)
    assert engine.batch.running_ids == []
    await compute.close()


def test_full_blocks_are_named_as_the_policy_names_them() -> None:
    sequence = Sequence("s", 0, "router-0", list(range(40)), list(range(100, 130)), greedy(64))
    whole = [ref for ref in block_refs(ROOT, sequence.tokens(0, 70)) if ref.full]
    for done in (3, 16, 17, 50, 64, 70):
        assert sequence.full_refs(ROOT, done) == whole[: done // 16]
