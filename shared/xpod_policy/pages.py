"""Which pages of a session's tokens the journal lacks.

Pure. A page is rewritten until it is full, so that a long session costs as much a second as a short one; not for each
new token, because most of what a write costs does not depend on how many are in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

PAGE_TOKENS = 64
ENOUGH_TOKENS = PAGE_TOKENS // 2
ROUNDS = 4
"""Rounds after which fewer than enough tokens are written, too."""


@dataclass(slots=True)
class Pages:
    """What is `written`: the number of tokens from the first on; new ones have `waited` so many rounds."""

    written: int = 0
    waited: int = 0

    def due(self, tokens: int) -> Iterator[tuple[int, int, int]]:
        """A round: (page, start, stop) of each page to write while there are `tokens` tokens."""
        if tokens <= self.written:
            return
        self.waited += 1
        if tokens - self.written < ENOUGH_TOKENS and self.waited < ROUNDS:
            return
        for page in range(self.written // PAGE_TOKENS, -(-tokens // PAGE_TOKENS)):
            yield page, page * PAGE_TOKENS, min(tokens, (page + 1) * PAGE_TOKENS)

    def wrote(self, tokens: int) -> None:
        """The journal has so many."""
        self.written, self.waited = tokens, 0
