"""How much one client may ask for: requests and tokens a minute, and requests at once.

Token buckets: a minute's worth at most, filled evenly. A request is let in when there is one request and some token to
spend; its prompt is paid for when it is known, and its answer token by token, so that a balance may be below zero and
has to be filled again first. Knows no keys and no clock: `now` is in seconds, of any clock.
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """None: as many as one likes."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """What is left of `limit`, and seconds until it is all there again."""

    limit: int
    remaining: int
    reset: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which limit, and seconds until another try may be let in; None: when a request ends."""

    of: str
    limit: int
    wait: float | None


class Bucket:
    """Full at first."""

    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self._level = float(limit)
        self._at = now

    def level(self, now: float) -> float:
        """What can be spent; below zero: what is owed."""
        self._level = min(float(self.limit), self._level + max(0.0, now - self._at) * self.limit / MINUTE)
        self._at = max(self._at, now)
        return self._level

    def spend(self, amount: float, now: float) -> None:
        """Whatever is there."""
        self._level = self.level(now) - amount

    def wait(self, amount: float, now: float) -> float:
        """Seconds until there is so much; of more than there can be, until it is full."""
        return max(0.0, (min(amount, self.limit) - self.level(now)) * MINUTE / self.limit)

    def balance(self, now: float) -> Balance:
        return Balance(self.limit, max(0, int(self.level(now))), self.wait(self.limit, now))


class Account:
    """One client's."""

    def __init__(self, limits: Limits, now: float) -> None:
        self.open = 0
        self._limits = Limits()
        self._requests: Bucket | None = None
        self._tokens: Bucket | None = None
        self.change(limits, now)

    def change(self, limits: Limits, now: float) -> None:
        """Other limits from now on; those that stay the same keep their balance."""
        before, self._limits = self._limits, limits
        if before.requests_per_minute != limits.requests_per_minute:
            self._requests = _bucket(limits.requests_per_minute, now)
        if before.tokens_per_minute != limits.tokens_per_minute:
            self._tokens = _bucket(limits.tokens_per_minute, now)

    def enter(self, now: float) -> Refusal | None:
        """One request more, until `leave`; or why not."""
        most = self._limits.concurrent
        if most is not None and self.open >= most:
            return Refusal("requests at once", most, None)
        for of, bucket in (("requests per minute", self._requests), ("tokens per minute", self._tokens)):
            if bucket is not None and (wait := bucket.wait(1, now)) > 0:
                return Refusal(of, bucket.limit, wait)
        if self._requests is not None:
            self._requests.spend(1, now)
        self.open += 1
        return None

    def leave(self) -> None:
        """A request that was let in has ended."""
        self.open -= 1

    def ask(self, tokens: int, now: float) -> Refusal | None:
        """A prompt of so many tokens is paid for; or why it has to wait."""
        if self._tokens is None:
            return None
        if (wait := self._tokens.wait(tokens, now)) > 0:
            return Refusal("tokens per minute", self._tokens.limit, wait)
        self._tokens.spend(tokens, now)
        return None

    def spend(self, tokens: int, now: float) -> None:
        """So many were generated."""
        if self._tokens is not None:
            self._tokens.spend(tokens, now)

    def balances(self, now: float) -> dict[str, Balance]:
        """Of requests and tokens, where they are limited."""
        buckets = {"requests": self._requests, "tokens": self._tokens}
        return {name: bucket.balance(now) for name, bucket in buckets.items() if bucket is not None}


def _bucket(limit: int | None, now: float) -> Bucket | None:
    return None if limit is None else Bucket(limit, now)
