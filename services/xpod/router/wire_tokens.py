"""Tokens between the wire and the session machine. NaN on the wire is a logprob that nobody knows any more."""

from __future__ import annotations

import math

from xpod_policy.session import Token
from xpod_proto import TokenEvent
from xpod_proto.registry import maker_of

_token_event = maker_of(TokenEvent)


def token_of(event: TokenEvent) -> Token:
    """The session machine's token."""
    logprob = None if math.isnan(event.logprob) else event.logprob
    return Token(event.index, event.token, logprob, event.top, event.finish, event.cached)


def event_of(session: str, epoch: int, token: Token) -> TokenEvent:
    """The wire's token."""
    logprob = math.nan if token.logprob is None else token.logprob
    return _token_event(
        session, epoch, token.index, token.token, logprob, token.finish, token.top, token.cached
    )
