"""MemServe's ladder: whose blocks a later request may find, and so how a session names its blocks.

    basic    PD-Basic   nobody's: blocks serve their own session, on its way from prefill to decode and after a fault
    prefill  Caching-1  those of prompts
    decode   Caching-2  those of prompts, which decode workers keep, too, and need not fetch again
    full     Caching-3  those of prompts and of answers

A block that is not to be found by others has a name that its session alone can know. Source: MemServe (2406.17565) §5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from xpod_policy.blocks import NAME_BYTES, child


class Caching(StrEnum):
    """A rung of the ladder, the lowest first."""

    BASIC = "basic"
    PREFILL = "prefill"
    DECODE = "decode"
    FULL = "full"

    @property
    def prefill_keeps(self) -> bool:
        """Do prefill workers keep the blocks of prompts?"""
        return self is not Caching.BASIC

    @property
    def decode_keeps(self) -> bool:
        """Do decode workers keep blocks that they received, and those that they filled?"""
        return self in {Caching.DECODE, Caching.FULL}


@dataclass(frozen=True, slots=True)
class Naming:
    """How `session`, with a prompt of `prompt` tokens, names its blocks under `root`."""

    root: bytes
    session: str = ""
    prompt: int = 0
    caching: Caching = Caching.FULL

    def name(self, parent: bytes, tokens: Sequence[int], end: int) -> bytes:
        """Of the block that follows `parent` (the first: `root`) and holds `tokens`, the last at `end` - 1."""
        return child(self._own(parent) if self._alone(end) else parent, tokens)

    def _alone(self, end: int) -> bool:
        if self.caching is Caching.FULL:
            return False
        return self.caching is Caching.BASIC or end > self.prompt

    def _own(self, parent: bytes) -> bytes:
        return hashlib.blake2b(parent, key=self.session.encode()[:64], digest_size=NAME_BYTES).digest()
