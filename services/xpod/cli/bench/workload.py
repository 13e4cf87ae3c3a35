"""What is asked, and when: prompts, lengths and arrivals, drawn from a seed.

Knows: the same seed and index give the same job, whatever ran before it.
Does not know: servers, clocks, or how long an answer takes. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Literal

from xpod.cli.errors import BAD_USAGE, CliError

PromptAs = Literal["tokens", "text"]
FIRST_TOKEN = 16
"""Lower ids are often special."""
WORDS = (
    "river stone window market silver garden engine letter morning branch yellow carpet signal harbor winter "
    "candle bridge paper orange mirror needle forest copper valley pocket summer ladder basket thunder island"
)


@dataclass(frozen=True, slots=True)
class Lengths:
    """A number of tokens from `low` to `high`, each as likely."""

    low: int
    high: int

    @classmethod
    def parse(cls, option: str, text: str) -> Lengths:
        """`N` or `MIN:MAX`; raises CliError with the option's name."""
        parts = text.split(":")
        try:
            low, high = int(parts[0]), int(parts[-1])
        except ValueError:
            low, high = 0, 0
        if len(parts) > 2 or not 1 <= low <= high:
            raise CliError(f"{option}: {text!r} is not N or MIN:MAX with 1 <= MIN <= MAX", BAD_USAGE)
        return cls(low, high)

    def draw(self, random: Random) -> int:
        return random.randint(self.low, self.high)


@dataclass(frozen=True, slots=True)
class Job:
    """One request. `prompt_tokens` is None for text: only the server knows.

    Requests of one conversation have the same `cache_key`.
    """

    index: int
    prompt: list[int] | str
    prompt_tokens: int | None
    output_tokens: int
    cache_key: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """Jobs by index; those of a warm-up have negative ones, so that no prompt of theirs comes again."""

    seed: int
    prompt: Lengths
    output: Lengths
    prompt_as: PromptAs
    vocab: int

    def job(self, index: int) -> Job:
        random = Random(f"{self.seed}:{index}")
        length, output = self.prompt.draw(random), self.output.draw(random)
        if self.prompt_as == "text":
            return Job(index, " ".join(random.choices(WORDS.split(), k=length)), None, output)
        return Job(index, [random.randrange(FIRST_TOKEN, self.vocab) for _ in range(length)], length, output)

    def jobs(self, count: int) -> Iterator[Job]:
        return map(self.job, range(count))

    def warmup(self, count: int) -> Iterator[Job]:
        return map(self.job, range(-count, 0))

    def arrivals(self, rate: float, count: int) -> list[float]:
        """Seconds from the start at which each job is due: a Poisson process, the first one at once."""
        random = Random(f"{self.seed}:arrivals")
        gaps = (random.expovariate(rate) for _ in range(count - 1))
        return list(accumulate(gaps, initial=0.0))
