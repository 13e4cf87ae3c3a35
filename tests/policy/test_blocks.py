"""Block names: equal for equal prefixes, different for everything else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpod_policy.blocks import (
    BLOCK_TOKENS,
    NAME_BYTES,
    BlockRef,
    block_refs,
    blocks_for,
    child,
    covering,
    names,
    namespace,
    salted,
)

ROOT = namespace("model", "bf16", "print", "")
TOKENS = list(range(1, 41))
Tokens = st.lists(st.integers(0, 2**32 - 1), max_size=50)


@pytest.mark.parametrize(
    ("length", "covers"),
    [(0, []), (1, [1]), (15, [15]), (16, [16]), (17, [16, 1]), (32, [16, 16]), (40, [16, 16, 8])],
)
def test_a_sequence_is_cut_into_blocks(length: int, covers: list[int]) -> None:
    refs = block_refs(ROOT, TOKENS[:length])
    assert [ref.tokens for ref in refs] == covers
    assert [ref.start for ref in refs] == [16 * i for i in range(len(covers))]
    assert [ref.full for ref in refs] == [count == BLOCK_TOKENS for count in covers]
    assert blocks_for(length) == len(covers)
    assert all(len(ref.name) == NAME_BYTES for ref in refs)


def test_names_form_a_chain() -> None:
    first, second, third = block_refs(ROOT, TOKENS)
    assert first.name == child(ROOT, TOKENS[:16])
    assert second.name == child(first.name, TOKENS[16:32])
    assert third == BlockRef(child(second.name, TOKENS[32:]), 32, 8)
    assert third.end == 40


@pytest.mark.parametrize("length", [0, 1, 16, 17, 32, 40])
def test_names_one_at_a_time_are_the_same(length: int) -> None:
    data = np.asarray(TOKENS[:length], "<u4").tobytes()
    expected = [ref.name for ref in block_refs(ROOT, TOKENS[:length])]
    assert list(names(ROOT, data)) == list(names(ROOT, memoryview(data))) == expected


def test_each_salt_has_names_of_its_own() -> None:
    roots = {salt: salted(ROOT, salt) for salt in ("", "a", "b", "ab", "\0", "é")}
    assert roots[""] == ROOT
    assert len(set(roots.values())) == len(roots)
    assert all(len(root) == NAME_BYTES for root in roots.values())
    assert salted(namespace("other"), "a") != roots["a"]
    assert roots["a"].hex() == "9310327582f7ac9d180cd68ba00cae7e", "names never change"


def test_names_never_change() -> None:
    assert ROOT.hex() == "f7147a1add16b76636521ef172146433"
    assert block_refs(ROOT, TOKENS)[-1].name.hex() == "c4d578ae7e5a951dc3bd118cbd7f98f0"


@settings(deadline=None, derandomize=True)
@given(Tokens, Tokens)
def test_names_are_shared_exactly_as_far_as_the_prefix(one: list[int], two: list[int]) -> None:
    for prefix in ([], one[:20]):
        left, right = block_refs(ROOT, prefix + one), block_refs(ROOT, prefix + two)
        for a, b in zip(left, right, strict=False):
            assert (a.name == b.name) == ((prefix + one)[: a.end] == (prefix + two)[: b.end])


@pytest.mark.parametrize("position", [0, 15, 16, 39])
def test_a_changed_token_renames_its_block_and_all_that_follow(position: int) -> None:
    changed = [*TOKENS[:position], 99, *TOKENS[position + 1 :]]
    same = [
        a.name == b.name for a, b in zip(block_refs(ROOT, TOKENS), block_refs(ROOT, changed), strict=True)
    ]
    assert same == [i < position // 16 for i in range(3)]


def test_a_partial_block_is_not_the_full_one() -> None:
    names = {block_refs(ROOT, TOKENS[:length])[0].name for length in range(1, 17)}
    assert len(names) == 16


@pytest.mark.parametrize(
    "parts",
    [
        (),
        ("model",),
        ("model2", "bf16", "print", ""),
        ("model", "bf16", "print", "salt"),
        ("modelbf16", "print", ""),
    ],
)
def test_namespaces_share_nothing(parts: tuple[str, ...]) -> None:
    other = {ref.name for ref in block_refs(namespace(*parts), TOKENS)}
    assert not other & {ref.name for ref in block_refs(ROOT, TOKENS)}


A, B, C = (BlockRef(bytes([i]), 16 * i, 16) for i in range(3))
A5, A9, B4 = BlockRef(b"a5", 0, 5), BlockRef(b"a9", 0, 9), BlockRef(b"b4", 16, 4)


@pytest.mark.parametrize(
    ("candidates", "found", "expected"),
    [
        ([], [], []),
        ([A, B, C], [], []),
        ([A, B, C], [A, B, C], [A, B, C]),
        ([A, B, C], [A, C], [A]),
        ([A, B, C], [B, C], []),
        ([A5, A9, A], [A5, A9], [A9]),
        ([A, A9, A5], [A5, A], [A]),
        ([A, B, B4], [A, B4], [A, B4]),
        ([A, B4, B, C], [A, B4, B, C], [A, B, C]),
        ([A9, B], [A9, B], [A9]),
    ],
)
def test_covering(candidates: list[BlockRef], found: list[BlockRef], expected: list[BlockRef]) -> None:
    assert covering(candidates, {ref.name for ref in found}) == expected
