"""Memory that is used again: by whom, and how much of it waits."""

from __future__ import annotations

import pytest

from xpod.mempool.buffers import Buffers


def test_a_buffer_is_used_again_by_bytes_of_its_size() -> None:
    buffers = Buffers()
    first = buffers.filled(b"aaaa")
    buffers.give_back(first)
    assert buffers.filled(b"bbb") == b"bbb"
    again = buffers.filled(memoryview(b"cccc"))
    assert again is first
    assert again == b"cccc"
    assert buffers.filled(b"dddd") is not first


def test_a_blank_buffer_is_one_of_its_size() -> None:
    buffers = Buffers()
    first = buffers.blank(4)
    buffers.give_back(first)
    assert len(buffers.blank(3)) == 3
    assert buffers.blank(4) is first
    assert buffers.blank(4) is not first


@pytest.mark.parametrize(("sizes", "kept"), [([4, 4, 4], 2), ([4, 4, 5], 1), ([11], 0), ([4, 3, 3, 3, 3], 3)])
def test_so_many_wait(sizes: list[int], kept: int) -> None:
    buffers = Buffers(limit=10)
    given = [buffers.filled(bytes(size)) for size in sizes]
    for buffer in given:
        buffers.give_back(buffer)
    again = [buffers.filled(bytes(sizes[-1])) for _ in given]
    assert sum(any(one is each for each in given) for one in again) == kept
