"""What a router receives."""

from typing import Annotated

from pydantic import Field

from xpod_proto.registry import Message, message


@message(80)
class TokenEvent(Message):
    """Token `index` of a session (0 is the first generated). A non-empty `finish` ends it: stop or length.

    `top` holds the alternatives asked for, as (token, logprob), the likeliest first. `cached` says, with token 0,
    how many of the prompt's tokens were found in MemPool and not computed.
    """

    session: str
    epoch: int
    index: Annotated[int, Field(ge=0)]
    token: int
    logprob: float
    finish: str = ""
    top: tuple[tuple[int, float], ...] = ()
    cached: int = 0


@message(81)
class PrefillDone(Message):
    """The prompt's KV is in MemPool; `first` repeats token 0."""

    session: str
    epoch: int
    worker: str
    first: TokenEvent


@message(82)
class SessionFailed(Message):
    """A worker gives the session up, and says why in one line."""

    session: str
    epoch: int
    worker: str
    code: str
    reason: str


@message(83)
class RunningSessions(Message):
    """What a worker computes for routers: (session, epoch, router) each. Who knows better cancels it."""

    worker: str
    kind: str
    sessions: tuple[tuple[str, int, str], ...]
