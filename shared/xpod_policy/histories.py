"""What several members remember of a session, put together.

Pure. Knows: that a token with its logprob is worth more than the token alone, and that a hole ends what is of use.
"""

from __future__ import annotations

from collections.abc import Iterable

from xpod_policy.session import Token


def put_together(remembered: Iterable[Iterable[Token]], start: int) -> tuple[list[Token], int]:
    """The beginning that is known without a hole, and how many tokens there are of which anybody knows.

    From `start` on a token is of use only with its logprob; before it, the client has that already.
    """
    best: dict[int, Token] = {}
    for tokens in remembered:
        for token in tokens:
            known = best.get(token.index)
            if known is None or known.logprob is None:
                best[token.index] = token
    beginning: list[Token] = []
    while (following := best.get(len(beginning))) is not None:
        if following.logprob is None and following.index >= start:
            break
        beginning.append(following)
    return beginning, max(best, default=-1) + 1
