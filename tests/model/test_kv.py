"""Blocks are given out once, come back, and travel bit for bit."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from xpod_model.errors import CacheFull
from xpod_model.kv import KVCache, KVSpec

SPEC = KVSpec((24, 8), "bf16", plane=4)


def filled(cache: KVCache) -> list[int]:
    blocks = cache.alloc(2)
    slots = torch.from_numpy(cache.slots(blocks, 0, 32))
    for layer, width in enumerate(cache.spec.widths):
        cache.write(layer, slots, torch.randn(32, width // 4, 4).to(cache.layers[0].dtype))
    return blocks


def test_blocks_are_given_out_once() -> None:
    cache = KVCache(SPEC, 5)
    first, second = cache.alloc(2), cache.alloc(3)
    assert sorted(first + second) == list(range(5))
    assert not cache.can_alloc(1)
    with pytest.raises(CacheFull, match="1 KV blocks wanted, 0 of 5 are free"):
        cache.alloc(1)
    cache.free(first)
    assert cache.free_blocks == 2
    assert sorted(cache.alloc(2)) == sorted(first)


def test_a_refused_alloc_takes_nothing() -> None:
    cache = KVCache(SPEC, 5)
    with pytest.raises(CacheFull):
        cache.alloc(6)
    assert cache.free_blocks == 5


def test_freeing_twice_is_a_bug() -> None:
    cache = KVCache(SPEC, 5)
    blocks = cache.alloc(1)
    cache.free(blocks)
    with pytest.raises(AssertionError):
        cache.free(blocks)


def test_a_fresh_block_reads_as_zeros() -> None:
    cache = KVCache(SPEC, 2)
    cache.free(filled(cache))
    assert not any(cache.export_block(block).any() for block in cache.alloc(2))


@pytest.mark.parametrize("tokens", [16, 1, 9])
def test_a_block_travels(tokens: int) -> None:
    source, target = KVCache(SPEC, 2), KVCache(SPEC, 3)
    block, place = filled(source)[1], target.alloc(1)[0]
    data = source.export_block(block, tokens)
    assert data.dtype == np.uint8
    assert data.nbytes == tokens * SPEC.bytes_per_token == tokens * 64
    for form in (data, data.tobytes(), memoryview(data.tobytes())):
        target.import_block(place, form, tokens)
        assert np.array_equal(target.export_block(place, tokens), data)
    assert not any(layer[:, place, tokens:].any() for layer in target.layers)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("tokens", [16, 1, 9, None])
def test_layers_follow_one_another_in_a_block(tokens: int | None, dtype: str) -> None:
    cache = KVCache(KVSpec((24, 8, 16, 8, 12), dtype, plane=4), 2)
    block = filled(cache)[1]
    for cuts in ([0, 5], [0, 2, 5], [0, 1, 2, 3, 4, 5]):
        parts = [cache.export_layers(block, tokens, *ends) for ends in pairwise(cuts)]
        assert b"".join(part.tobytes() for part in parts) == cache.export_block(block, tokens).tobytes()


def test_many_blocks_are_what_each_of_them_is() -> None:
    cache = KVCache(KVSpec((24, 8, 16), "bf16", plane=4), 6)
    blocks = [*filled(cache), *filled(cache)][::-1]
    for ends in ((0, 3), (0, 1), (1, 3)):
        rows = cache.export_blocks(blocks, *ends)
        assert [row.tobytes() for row in rows] == [
            cache.export_layers(block, None, *ends).tobytes() for block in blocks
        ]
    assert len(cache.export_blocks([], 0, 3)) == 0


def test_an_export_is_a_copy() -> None:
    cache = KVCache(SPEC, 2)
    blocks = filled(cache)
    data = cache.export_block(blocks[0])
    before = data.copy()
    cache.free(blocks)
    cache.alloc(2)
    assert np.array_equal(data, before)


def test_a_block_of_another_size_is_refused() -> None:
    cache = KVCache(SPEC, 1)
    with pytest.raises(ValueError, match="10 bytes are not 16 tokens of 64 bytes"):
        cache.import_block(cache.alloc(1)[0], bytes(10))


def test_gather_is_what_was_written() -> None:
    cache = KVCache(SPEC, 4)
    table = [3, 1]
    cache.alloc(4)
    values = torch.randn(20, 6, 4).bfloat16()
    cache.write(0, torch.from_numpy(cache.slots(table, 0, 20)), values)
    gathered = cache.gather(0, torch.tensor(table))
    assert torch.equal(gathered[:, :20], values.transpose(0, 1))
    assert not gathered[:, 20:].any()


@pytest.mark.skipif(sys.platform != "linux", reason="how much memory is taken is asked of Linux")
def test_memory_is_taken_where_it_is_written_and_given_back_at_rest() -> None:
    cache = KVCache(KVSpec((2048,) * 4, "bf16", plane=64), 4096)  # 32 planes of 8 MiB a layer
    before = anonymous_bytes()
    blocks = cache.alloc(2)
    slots = torch.from_numpy(cache.slots(blocks, 0, 32))
    for layer in range(4):
        cache.write(layer, slots, torch.ones(32, 32, 64).bfloat16())
    assert anonymous_bytes() - before < 4 << 20  # in large pages it would be 256 MiB
    cache.rest()
    assert cache.export_block(blocks[0]).all()  # what is in use stays
    cache.free(blocks)
    cache.rest()
    assert anonymous_bytes() - before < 2 << 20
    assert not any(cache.export_block(block).any() for block in cache.alloc(2))


def test_a_block_handed_out_at_rest_comes_back_as_zeros() -> None:
    cache = KVCache(SPEC, 2)
    cache.free(filled(cache))
    cache.rest()
    for _ in range(2):
        blocks = filled(cache)
        cache.free(blocks)
        assert not any(cache.export_block(block).any() for block in cache.alloc(2))
        cache.free(blocks)


def anonymous_bytes() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def test_sizes() -> None:
    assert (SPEC.bytes_per_token, SPEC.bytes_per_block) == (64, 1024)
    assert [SPEC.blocks_for(n) for n in (0, 1, 16, 17)] == [0, 1, 1, 2]
