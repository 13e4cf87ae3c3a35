"""Sessions of another router, or of a stream that broke: what was said, from the workers that still run them.

A worker that knows the session says all of its tokens and is then let go: the session goes on under a new name, from
the blocks that MemPool has. Where nobody knows it, it is begun again, and determinism gives the same tokens.
"""

from __future__ import annotations

import asyncio

import structlog

from xpod.router.api.resume import Place
from xpod.router.session import Surroundings
from xpod_proto import CancelSession, ReplayTokens, TokenHistory, subjects
from xpod_runtime.errors import XpodError

log = structlog.get_logger(__name__)
KINDS = ("decode", "prefill")
ANSWER_SECONDS = 0.5
LAST_EPOCH = 1 << 31
"""Above every epoch that the former router can have given out."""


async def take_over(around: Surroundings, place: Place) -> list[int]:
    """Token ids up to `place`; none where nobody knows them all, or the session has ended there already."""
    workers = [(kind, member.name) for kind in KINDS for member in around.view.usable(kind)]
    said = await asyncio.gather(*(_ask(around, kind, name, place) for kind, name in workers))
    for kind, name in workers:
        subject = subjects.mailbox(around.pod, kind, name)
        await around.bus.publish(subject, CancelSession(place.session, LAST_EPOCH))
    found = max(said, key=len, default=[])
    log.info("session taken over", session=place.session, index=place.index, said=len(found))
    return found


async def _ask(around: Surroundings, kind: str, name: str, place: Place) -> list[int]:
    question = ReplayTokens(place.session, place.index)
    try:
        reply = await around.view.request(around.bus, kind, name, question, timeout=ANSWER_SECONDS)
    except XpodError as error:
        log.warning("worker did not answer", session=place.session, worker=name, error=str(error))
        return []
    if not isinstance(reply, TokenHistory) or not reply.known:
        return []
    said: list[int] = reply.said.tolist()
    ended = any(event.index == place.index and event.finish for event in reply.tokens)
    return [] if ended or len(said) <= place.index else said[: place.index + 1]
