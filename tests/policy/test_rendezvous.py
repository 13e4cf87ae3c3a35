"""Rendezvous hashing: balance, and only the keys of the node that came or went move."""

from __future__ import annotations

from collections import Counter

import pytest

from xpod_policy.rendezvous import ranked, replicas

NODES = [f"mempool-{i}" for i in range(5)]
KEYS = [bytes([i % 256, i // 256]) for i in range(2000)]


def test_every_caller_agrees() -> None:
    for key in KEYS[:50]:
        assert ranked(key, NODES) == ranked(key, reversed(NODES)) == ranked(key, set(NODES))
        assert sorted(ranked(key, NODES)) == NODES


@pytest.mark.parametrize("lost", NODES)
def test_only_the_lost_nodes_keys_move(lost: str) -> None:
    rest = [node for node in NODES if node != lost]
    for key in KEYS:
        before = ranked(key, NODES)
        assert ranked(key, rest) == [node for node in before if node != lost]


def test_a_newcomer_takes_its_share_and_nothing_else() -> None:
    moved = 0
    for key in KEYS:
        before, after = replicas(key, NODES, 1), replicas(key, [*NODES, "new"], 1)
        assert after in (before, ["new"])
        moved += after != before
    assert 0.8 < moved / (len(KEYS) / 6) < 1.2


@pytest.mark.parametrize("rank", range(5))
def test_balance_at_every_rank(rank: int) -> None:
    counts = Counter(ranked(key, NODES)[rank] for key in KEYS)
    assert set(counts) == set(NODES)
    assert all(0.85 < count / (len(KEYS) / 5) < 1.15 for count in counts.values())


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 1), (2, 2), (5, 5), (9, 5)])
def test_replicas_are_different_nodes(count: int, expected: int) -> None:
    chosen = replicas(b"key", NODES, count)
    assert len(chosen) == len(set(chosen)) == expected
    assert chosen == ranked(b"key", NODES)[:count]


def test_nobody_there() -> None:
    assert ranked(b"key", []) == replicas(b"key", [], 2) == []
