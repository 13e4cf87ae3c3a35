"""The engine without a pod: who leaves early must not touch blocks that are somebody else's by then."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest

from pod.harness import greedy
from xpod.attention.engine import Engine
from xpod.attention.hop import Hop
from xpod.attention.pool import block_data
from xpod.attention.sequence import Sequence
from xpod.decode.recomputed import Recomputed
from xpod_model.attention_half import AttentionHalf
from xpod_model.checkpoint import Checkpoint
from xpod_model.kv import KVCache
from xpod_policy.batch import Batch
from xpod_policy.blocks import BLOCK_TOKENS, block_refs
from xpod_policy.caching import Naming
from xpod_runtime.compute import ComputeThread

ROOT = b"root"


async def test_a_session_cancelled_while_its_blocks_travel_writes_nowhere(
    oracle_dirs: dict[str, Path],
) -> None:
    half = AttentionHalf.load(Checkpoint.open(oracle_dirs["plain"]), "fp32")
    cache = KVCache(half.kv_spec(), 4)
    compute = ComputeThread()
    engine = Engine(half, cache, Batch(4, 64, 4), cast(Hop, None), compute, eos=())
    prompt = list(range(16))
    (ref,) = block_refs(ROOT, prompt)
    travelling = block_data(ref, bytes([1]) * cache.spec.bytes_per_block)

    early = Sequence("early", 0, "router-0", prompt, [1], greedy(4), Naming(ROOT))
    engine.open(early, 64)
    engine.close("early")
    late = Sequence("late", 0, "router-0", prompt, [1], greedy(4), Naming(ROOT))
    engine.open(late, 64)
    assert not await engine.join(early, [ref], {ref.name: travelling})

    assert not any(np.any(cache.export_block(block)) for block in late.table)
    assert engine.batch.running_ids == []
    await compute.close()


def test_full_blocks_are_named_as_the_policy_names_them() -> None:
    sequence = Sequence("s", 0, "router-0", list(range(40)), list(range(100, 130)), greedy(64), Naming(ROOT))
    whole = [ref for ref in block_refs(ROOT, sequence.tokens(0, 70)) if ref.full]
    for done in (3, 16, 17, 50, 64, 70):
        assert sequence.full_refs(done) == whole[: done // 16]


# generated, known, loaded: reopened, recomputed, far
HANDED_OVER = {
    "the blocks of the prompt, and its tail": ((1, 41, 40), (0, 0, 0)),
    "a prompt of whole blocks": ((1, 33, 32), (0, 0, 0)),
    "without blocks": ((1, 41, 0), (1, 40, 1)),
    "again, on the edge of a block": ((8, 49, 48), (1, 0, 0)),
    "again, in the middle of a block": ((19, 60, 48), (1, 11, 0)),
    "again, the newest token ends a block": ((24, 64, 48), (1, 15, 0)),
    "again, a block was in flight": ((24, 66, 48), (1, 17, 1)),
}


@pytest.mark.parametrize("name", HANDED_OVER)
def test_what_a_join_computes_again(name: str) -> None:
    handed_over, counts = HANDED_OVER[name]
    recomputed = Recomputed()
    recomputed.handed_over(*handed_over)
    assert (recomputed.sessions, recomputed.tokens, recomputed.far) == counts


async def test_a_join_without_faults_computes_one_token(oracle_dirs: dict[str, Path]) -> None:
    """Of a prompt with a tail and of one without, as prefill leaves them in MemPool."""
    half = AttentionHalf.load(Checkpoint.open(oracle_dirs["plain"]), "fp32")
    cache = KVCache(half.kv_spec(), 12)
    compute = ComputeThread()
    engine = Engine(half, cache, Batch(4, 64, 12), cast(Hop, None), compute, eos=())
    for length in (15, 16, 20, 31, 32):
        sequence = Sequence(f"of {length}", 0, "router-0", list(range(length)), [1], greedy(4), Naming(ROOT))
        engine.open(sequence, length + 4)
        stored = {
            ref.name: block_data(ref, bytes(cache.spec.bytes_per_block // BLOCK_TOKENS * ref.tokens))
            for ref in block_refs(ROOT, sequence.prompt)
        }
        assert await engine.join(sequence, sequence.loadable(), stored)
        recomputed = Recomputed()
        recomputed.handed_over(len(sequence.generated), sequence.known, sequence.loaded)
        assert recomputed == Recomputed()
        engine.close(sequence.id)
    await compute.close()
