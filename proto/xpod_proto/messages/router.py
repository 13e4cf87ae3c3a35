"""What a router receives."""

from xpod_proto.registry import Message, message


@message(80)
class TokenEvent(Message):
    """Token `index` of a session (0 is the first generated). A non-empty `finish` ends it: stop or length.

    `top` holds the alternatives asked for, as (token, logprob), the likeliest first.
    """

    session: str
    epoch: int
    index: int
    token: int
    logprob: float
    finish: str = ""
    top: tuple[tuple[int, float], ...] = ()


@message(81)
class PrefillDone(Message):
    """The prompt's KV is in MemPool; `cached` of its tokens were found there; `first` repeats token 0."""

    session: str
    epoch: int
    worker: str
    cached: int
    first: TokenEvent


@message(82)
class SessionFailed(Message):
    """A worker gives the session up, and says why in one line."""

    session: str
    epoch: int
    worker: str
    code: str
    reason: str
