"""A key's limits, as one request meets them: 429 with Retry-After, and OpenAI's x-ratelimit headers.

Knows: accounts, ASGI scopes, the headers' names. Does not know: which key it is, or where limits come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.types import Scope

from xpod.router.api.errors import ApiError
from xpod_policy.rate_limits import Account, Refusal

STATE = "allowance"
SOON = 1.0
"""Seconds until another try, where it depends on when a request ends."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """Of whoever sent the request."""

    account: Account
    clock: Callable[[], float]

    @contextmanager
    def while_open(self) -> Iterator[None]:
        """From the request's beginning to its end. Raises ApiError."""
        if (refusal := self.account.enter(self.clock())) is not None:
            raise self._refused(refusal)
        try:
            yield
        finally:
            self.account.leave()

    def ask(self, tokens: int) -> None:
        """Its prompts have so many tokens. Raises ApiError."""
        if (refusal := self.account.ask(tokens, self.clock())) is not None:
            raise self._refused(refusal)

    def spend(self) -> None:
        """A token was generated."""
        self.account.spend(1, self.clock())

    def headers(self) -> dict[str, str]:
        """What is left."""
        told: dict[str, str] = {}
        for name, balance in self.account.balances(self.clock()).items():
            told[f"x-ratelimit-limit-{name}"] = str(balance.limit)
            told[f"x-ratelimit-remaining-{name}"] = str(balance.remaining)
            told[f"x-ratelimit-reset-{name}"] = f"{balance.reset:.3f}s"
        return told

    def _refused(self, refusal: Refusal) -> ApiError:
        wait = SOON if refusal.wait is None else refusal.wait
        return ApiError(
            429,
            f"this key's limit is {refusal.limit} {refusal.of}",
            kind="rate_limit_error",
            code="rate_limit_exceeded",
            headers={"Retry-After": str(max(1, math.ceil(wait)))},
        )


def allow(scope: Scope, allowance: Allowance) -> None:
    """The request of this scope is bounded so."""
    scope.setdefault("state", {})[STATE] = allowance


def allowance_of(scope: Scope) -> Allowance | None:
    """What bounds the request; None: nothing."""
    found: Allowance | None = scope.get("state", {}).get(STATE)
    return found
