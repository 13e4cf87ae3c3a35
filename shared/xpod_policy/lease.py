"""Who leads: one of several equals, by a lease in a store that may not answer.

Pure. A table over what the store says, who is alive, and what time it is here (seconds of any one clock): clocks are
never compared, since what counts is how long ago *we* saw the lease renewed. Where the store is silent, the last known
holder goes on, and if that one is gone, the first by name: two leaders for a moment do no harm, none for long would.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

RENEW_SECONDS = 0.5


@dataclass
class Lease:
    """As `me` sees it: a holder loses it that is not alive, or did not renew it for `lasts` seconds."""

    me: str
    lasts: float = 3.0
    silence: float = 1.0
    """Seconds without an answer after which the store is not waited for."""
    holder: str = ""
    revision: int = 0
    renewed: float = -math.inf
    answered: float = -math.inf

    def read(self, holder: str, revision: int, now: float) -> None:
        """The store says so; revision 0: nobody has held it yet."""
        if revision != self.revision:
            self.renewed = now
        self.holder, self.revision, self.answered = holder, revision, now

    def decided(self, other: str, now: float) -> None:
        """`other` leads, too, and decided after us. Where the store is silent for us, it may have told `other` so."""
        if now - self.answered > self.silence:
            self.holder = other

    def to_claim(self, alive: Collection[str], now: float) -> int | None:
        """The revision to claim it with now; None: it is another's."""
        expired = now - self.renewed > self.lasts
        return self.revision if self.holder not in alive or self.holder == self.me or expired else None

    def leads(self, alive: Collection[str], now: float) -> bool:
        """Is it ours to decide?"""
        if now - self.answered <= self.silence:
            return self.holder == self.me
        leader = self.holder if self.holder in alive else min(alive, default="")
        return leader == self.me
