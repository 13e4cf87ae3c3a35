"""What every contender is asked: a few cases, and the prompts of each.

Knows: the same seed, round and case give the same prompts, and different ones give prompts that share nothing.
Does not know: contenders. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from xpod.cli.bench.workload import FIRST_TOKEN
from xpod.cli.errors import BAD_USAGE, CliError

Prompts = list[list[int]]


@dataclass(frozen=True, slots=True)
class Case:
    """So many sequences, all asked at once, each with a prompt and an answer of exactly so many tokens."""

    name: str
    sequences: int
    prompt_tokens: int
    output_tokens: int

    @property
    def decodes(self) -> bool:
        """Whether its figures are of answers; else they are of prompts."""
        return self.output_tokens > 1

    def prompts(self, seed: int, number: int, vocab: int) -> Prompts:
        """Random token ids of round `number`."""
        random = Random(f"{seed}:{number}:{self.name}")
        return [
            [random.randrange(min(FIRST_TOKEN, vocab - 1), vocab) for _ in range(self.prompt_tokens)]
            for _ in range(self.sequences)
        ]


CASES = (
    Case("prefill", 8, 256, 1),
    Case("decode-1", 1, 64, 64),
    Case("decode-8", 8, 64, 64),
    Case("decode-32", 32, 64, 64),
)
WARMUP = (Case("warm-up prefill", 8, 256, 1), Case("warm-up decode", 32, 64, 8))
TAX_CASE = "decode-32"


def chosen(names: list[str]) -> tuple[Case, ...]:
    """The cases of these names in their usual order; all where none is named."""
    known = [case.name for case in CASES]
    for name in names:
        if name not in known:
            raise CliError(f"--case: {name!r} is not one of {', '.join(known)}", BAD_USAGE)
    return tuple(case for case in CASES if not names or case.name in names)
