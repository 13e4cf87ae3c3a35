"""Which pages of a session's tokens the journal lacks.

Pure. A page is rewritten until it is full, so that a long session costs as much a second as a short one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

PAGE_TOKENS = 64


@dataclass(slots=True)
class Pages:
    """What is `written`: the number of tokens from the first on."""

    written: int = 0

    def due(self, tokens: int) -> Iterator[tuple[int, int, int]]:
        """(page, start, stop) of each page to write while there are `tokens` tokens."""
        if tokens <= self.written:
            return
        for page in range(self.written // PAGE_TOKENS, -(-tokens // PAGE_TOKENS)):
            yield page, page * PAGE_TOKENS, min(tokens, (page + 1) * PAGE_TOKENS)
