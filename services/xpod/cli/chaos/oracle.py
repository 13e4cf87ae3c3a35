"""What every stream should have said: its fault-free answer, compared to the bit."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

from xpod.cli.answer import Answer


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an answer differs: tokens that are missing, too many, or others (or with other logprobs); anything else."""

    lost: int = 0
    doubled: int = 0
    changed: int = 0
    other: str = ""

    @property
    def right(self) -> bool:
        return self == Verdict()


def compare(expected: Answer, got: Answer) -> Verdict:
    """Tokens and the bits of their logprobs, then text, finish reason and usage."""
    wanted = list(zip_longest(expected.tokens, map(float.hex, expected.logprobs)))
    found = list(zip_longest(got.tokens, map(float.hex, got.logprobs)))
    changed = sum(a != b for a, b in zip(wanted, found, strict=False))
    lost, doubled = max(0, len(wanted) - len(found)), max(0, len(found) - len(wanted))
    return Verdict(lost, doubled, changed, _other(expected, got))


def _other(expected: Answer, got: Answer) -> str:
    if got.text != expected.text:
        return "text"
    if got.finish_reason != expected.finish_reason:
        return f"finish reason {got.finish_reason}, not {expected.finish_reason}"
    for count in ("prompt_tokens", "completion_tokens"):
        if got.usage.get(count) != expected.usage.get(count):
            return f"{count} {got.usage.get(count)}, not {expected.usage.get(count)}"
    return ""
