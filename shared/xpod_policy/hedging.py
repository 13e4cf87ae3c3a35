"""When an expert call has taken so long that another shard should be asked as well.

Hedged requests as in "The Tail at Scale" (Dean and Barroso, CACM 2013): after a time that hardly any call takes. Calls
are told apart by their size, because one of a prompt takes many times as long as one of a token.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LEAST_SECONDS = 0.05
TIMES = 5.0
QUANTILE = 0.99
STEP = 0.1
FIRST_SECONDS = 1.0
"""Before any call has been answered, nobody knows."""
MOST_TIMES = 20.0
"""Beyond FIRST_SECONDS, nothing is waited for longer than so many times what it takes when all is well."""
FORGETS = 0.01


@dataclass
class Latencies:
    """The 99th percentile of calls' seconds, and what the quickest take, by the power of two of their pairs.

    A few calls that waited for what was dead or hung make the percentile of their size useless for long; the quickest
    do not mind them.
    """

    quantiles: dict[int, float] = field(default_factory=dict)
    quickest: dict[int, float] = field(default_factory=dict)

    def took(self, pairs: int, seconds: float) -> None:
        """A call was answered: up by 99 parts for one that took longer, down by 1 for one that did not."""
        size = pairs.bit_length()
        known = self.quantiles.get(size)
        if known is None:
            self.quantiles[size], self.quickest[size] = 2 * seconds, seconds
            return
        self.quantiles[size] = known * (1 + STEP * (QUANTILE if seconds > known else QUANTILE - 1))
        self.quickest[size] = min(seconds, self.quickest[size] * (1 + FORGETS))

    def patience(self, pairs: int) -> float:
        """Seconds after which to hedge a call of so many pairs."""
        size = pairs.bit_length()
        known = self._quantile(size)
        patience = FIRST_SECONDS if known is None else max(LEAST_SECONDS, TIMES * known)
        return patience if patience <= FIRST_SECONDS else min(patience, self._longest(size))

    def _longest(self, size: int) -> float:
        """Time does not shrink with size, and grows no faster: each size that was seen bounds the others."""
        quickest = min(known * (1 << max(0, size - each)) for each, known in self.quickest.items())
        return max(FIRST_SECONDS, MOST_TIMES * quickest)

    def _quantile(self, size: int) -> float | None:
        """Of calls of this size; else of the nearest larger ones, else of smaller ones, as if time grew with size."""
        known = self.quantiles
        if size in known or not known:
            return known.get(size)
        larger = [each for each in known if each > size]
        if larger:
            return known[min(larger)]
        smaller = max(known)
        return known[smaller] * (1 << (size - smaller))
