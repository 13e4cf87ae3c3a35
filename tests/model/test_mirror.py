"""A mirror saves copies and changes no bit, whatever happens to the batch and its blocks between steps."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from model.oracle_models import VOCAB
from xpod_model.attention_half import Segment
from xpod_model.kv import KVCache
from xpod_model.mirror import Ints, Mirror, Mirrors
from xpod_model.reference import Reference

BLOCKS = 60
GROUPS = 3


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def model(request: pytest.FixtureRequest, oracle_dirs: dict[str, Path]) -> Reference:
    return Reference.load(oracle_dirs["plain"], request.param)


@dataclass
class Pair:
    """The same sequences in a cache with mirrors and in one without."""

    model: Reference
    draw: random.Random
    mirrored: KVCache = field(init=False)
    plain: KVCache = field(init=False)
    live: list[tuple[list[int], list[int]]] = field(default_factory=list)  # tokens, blocks

    def __post_init__(self) -> None:
        spec = self.model.half.kv_spec()
        self.mirrored, self.plain = KVCache(spec, BLOCKS), KVCache(spec, BLOCKS, mirror_bytes=0)

    def tokens(self, count: int) -> list[int]:
        return [self.draw.randrange(VOCAB) for _ in range(count)]

    def step(self, segments: list[Segment]) -> None:
        found, expected = (self.model.step(segments, cache) for cache in (self.mirrored, self.plain))
        assert torch.equal(found, expected)

    def join(self) -> None:
        if not self.mirrored.can_alloc(10):
            return
        blocks = self.mirrored.alloc(10)
        assert self.plain.alloc(10) == blocks
        tokens = self.tokens(self.draw.choice([1, 5, 20, 120]))
        self.step([Segment(tokens, 0, blocks)])
        self.live.append((tokens, blocks))

    def leave(self) -> None:
        if self.live:
            _, blocks = self.live.pop(self.draw.randrange(len(self.live)))
            self.mirrored.free(blocks)
            self.plain.free(blocks)

    def decode(self) -> None:
        segments = []
        for tokens, blocks in self.live:
            tokens.append(self.draw.randrange(VOCAB))
            segments.append(Segment(tokens[-1:], len(tokens) - 1, blocks))
        if segments:
            self.step(segments)

    def rewind(self) -> None:
        """Decode other tokens over the last ones of one sequence."""
        if self.live:
            tokens, blocks = self.draw.choice(self.live)
            for back in (2, 1):
                if len(tokens) > 2:
                    tokens[-back] = self.draw.randrange(VOCAB)
                    self.step([Segment([tokens[-back]], len(tokens) - back, blocks)])

    def move(self) -> None:
        """Import a block over another sequence's first one."""
        if len(self.live) > 1:
            (_, source), (_, target) = self.draw.sample(self.live, 2)
            for cache in (self.mirrored, self.plain):
                cache.import_block(target[0], cache.export_block(source[0]))

    def shuffle(self) -> None:
        self.draw.shuffle(self.live)

    def abandon(self) -> None:
        """Begin a step that never ends, as when the experts do not answer."""
        if self.live:
            segments = [Segment(self.tokens(1), len(tokens), blocks) for tokens, blocks in self.live]
            for cache in (self.mirrored, self.plain):
                next(self.model.half.forward(segments, cache)).rows.sum()


@pytest.mark.parametrize("seed", range(6))
def test_no_history_shows(model: Reference, seed: int) -> None:
    pair = Pair(model, random.Random(seed))
    pair.join()
    actions = [pair.join, pair.leave, pair.rewind, pair.move, pair.shuffle, pair.abandon]
    for _ in range(25):
        for _ in range(pair.draw.randrange(5)):
            pair.decode()
        pair.draw.choice(actions)()


def test_a_batch_that_moves_on_is_not_gathered_again(
    model: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair(model, random.Random(1))
    pair.join()
    pair.join()
    pair.decode()
    made: list[int] = []
    original = Mirror.__init__

    def counted(self: Mirror, layers: list[torch.Tensor], tables: Ints, keys: int) -> None:
        made.append(keys)
        original(self, layers, tables, keys)

    monkeypatch.setattr(Mirror, "__init__", counted)
    longest = max(len(tokens) for tokens, _ in pair.live)
    for _ in range(20):
        pair.decode()
    assert len(made) == (1 if longest <= 128 < longest + 20 else 0)
    assert len(pair.mirrored.mirrors._held) == 1


def test_a_batch_that_changes_leaves_no_mirror_behind(model: Reference) -> None:
    pair = Pair(model, random.Random(3))
    for _ in range(3):
        pair.join()
        pair.decode()
        pair.decode()
        assert len(pair.mirrored.mirrors._held) == 1
    while len(pair.live) > 1:
        pair.leave()
        pair.decode()
        assert len(pair.mirrored.mirrors._held) == 1


def test_a_batch_of_many_lengths_has_a_mirror_for_each_group(model: Reference) -> None:
    """Three groups in one forward: the third must not take the first one's mirror away from it."""
    pair = Pair(model, random.Random(4))
    for blocks, count in ((8, 100), (18, 260), (34, 530)):
        table = pair.mirrored.alloc(blocks)
        assert pair.plain.alloc(blocks) == table
        tokens = pair.tokens(count)
        pair.step([Segment(tokens, 0, table)])
        pair.live.append((tokens, table))
    for _ in range(3):
        pair.decode()
    assert len(pair.mirrored.mirrors._held) == GROUPS


def test_mirrors_keep_to_their_budget_together() -> None:
    layers = [torch.zeros(2, 9, 16, 8)]
    size = 2 * 128 * 8 * 4
    mirrors = Mirrors(layers, 9, 2 * size)
    for block in range(3):
        table = np.full((1, 8), block)
        assert mirrors.claim(table, np.array([0]), np.array([block]), 128) is not None
    assert sum(mirror.nbytes for mirror in mirrors._held.values()) == 2 * size
    assert mirrors.claim(np.full((3, 8), 8), np.zeros(3, int), np.array([8, 8, 8]), 128) is None
    mirrors.clear()
    assert not mirrors._held


def test_two_batches_take_turns(model: Reference) -> None:
    pair = Pair(model, random.Random(2))
    for _ in range(4):
        pair.join()
    for step in range(12):
        half = pair.live[:2] if step % 2 else pair.live[2:]
        for tokens, _ in half:
            tokens.append(3)
        pair.step([Segment(tokens[-1:], len(tokens) - 1, blocks) for tokens, blocks in half])
    assert all(mirror._keys for mirror in pair.mirrored.mirrors._held.values())
