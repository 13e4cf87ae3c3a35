"""Conversations of several turns: what their users say and when, drawn from a seed.

Knows: the same seed gives the same conversations, and each begins with the same system prompt.
Does not know: servers, or the answers (it is told them). Pure.
Source: MemServe (2406.17565), whose loads are conversations: each prompt is all that was said before, and more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from xpod.cli.bench.workload import FIRST_TOKEN
from xpod.cli.errors import BAD_USAGE, CliError

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """Lengths in tokens; `think` is the mean of a user's seconds before each turn."""

    conversations: int = 8
    turns: int = 6
    prompt_tokens: int = 256
    shared_tokens: int = 128
    turn_tokens: int = 64
    answer_tokens: int = 48
    think: float = 0.5

    def __post_init__(self) -> None:
        if self.shared_tokens > self.prompt_tokens:
            raise CliError("--shared-tokens: a first prompt has only --prompt-tokens of them", BAD_USAGE)

    @property
    def requests(self) -> int:
        return self.conversations * self.turns


@dataclass(frozen=True, slots=True)
class Conversation:
    """`says[i]` is what its user says in turn i, `thinks[i]` how many seconds before that."""

    index: int
    name: str
    says: tuple[Tokens, ...]
    thinks: tuple[float, ...]
    answer_tokens: int

    def prompt(self, answers: Sequence[Sequence[int]]) -> list[int]:
        """Of the turn that follows these answers: all that was said, in order."""
        spoken: list[int] = []
        for said, answer in zip(self.says, answers, strict=False):
            spoken += [*said, *answer]
        return [*spoken, *self.says[len(answers)]]


def conversations(shape: Shape, seed: int, vocab: int) -> list[Conversation]:
    """Token ids are below `vocab`."""
    shared = _tokens(Random(f"{seed}:shared"), shape.shared_tokens, vocab)
    return [_conversation(shape, seed, vocab, index, shared) for index in range(shape.conversations)]


def _conversation(shape: Shape, seed: int, vocab: int, index: int, shared: Tokens) -> Conversation:
    random, clock = Random(f"{seed}:says:{index}"), Random(f"{seed}:thinks:{index}")
    first = shared + _tokens(random, shape.prompt_tokens - shape.shared_tokens, vocab)
    rest = [_tokens(random, shape.turn_tokens, vocab) for _ in range(shape.turns - 1)]
    thinks = tuple(clock.expovariate(1.0) * shape.think for _ in range(shape.turns))
    return Conversation(index, f"conversation-{seed}-{index}", (first, *rest), thinks, shape.answer_tokens)


def _tokens(random: Random, count: int, vocab: int) -> Tokens:
    return tuple(random.randrange(min(FIRST_TOKEN, vocab - 1), vocab) for _ in range(count))
