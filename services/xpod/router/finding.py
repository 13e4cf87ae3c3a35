"""A session that another router had, or that a client lost: who has it, and what is left of it.

Asks the routers (one that owns it is followed), then the workers that may compute it, then the journal. Where nobody
knows anything, it is begun again, and determinism gives the same tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from xpod.common.service import now
from xpod.router.api.engine_protocol import Claim, KeyReused
from xpod.router.journal import Journal
from xpod.router.session import Found
from xpod.router.surroundings import Surroundings
from xpod.router.wire_tokens import token_of
from xpod_policy.histories import put_together
from xpod_policy.session import Token
from xpod_proto import CancelSession, ReplayTokens, TokenHistory, subjects
from xpod_runtime import span_names as names
from xpod_runtime.errors import NoResponders, XpodError

log = structlog.get_logger(__name__)
WORKERS = ("decode", "prefill")
ANSWER_SECONDS = 0.5
PAUSE_SECONDS = 0.05
FIND_SECONDS = 3.0
Who = tuple[str, str]
"""Kind and name."""


async def find(around: Surroundings, journal: Journal, claim: Claim, ours: Sequence[Token]) -> Found:
    """What is left of the claimed session; `ours` is what we remember of it. Raises KeyReused."""
    if claim.fresh:
        return Found()
    kinds = ("router", *WORKERS) if claim.request else WORKERS
    known = await _ask_all(around, kinds, claim)
    for (kind, name), reply in known.items():
        if kind == "router":
            _check(claim, reply.request)
            log.info("session followed", session=claim.session, router=name)
            return Found(router=name)
    memories = [ours, *(_tokens(reply) for reply in known.values())]
    tokens, most = put_together(memories, claim.start)
    if not known or len(tokens) < most or not any(map(_runs, known.values())):
        with around.tracer.span(names.RECALL, session=claim.session) as span:
            facts, written = await journal.recall(claim.session)
            span.set(tokens=len(written), known=facts is not None)
        if facts is not None:
            _check(claim, facts.request)
        tokens, _ = put_together([*memories, written], claim.start)
    holder = await _let_others_go(around, claim, known)
    log.info("session found", session=claim.session, tokens=len(tokens), worker=holder)
    return Found(tokens, max((reply.epoch for reply in known.values()), default=-1), holder)


def _check(claim: Claim, request: bytes) -> None:
    if claim.lasting and request and request != claim.request:
        raise KeyReused("this Idempotency-Key came with another request before")


async def _ask_all(around: Surroundings, kinds: tuple[str, ...], claim: Claim) -> dict[Who, TokenHistory]:
    """Who knows the session. Whoever does not answer is asked again, for as long as a NATS node may hang."""
    known: dict[Who, TokenHistory] = {}
    settled = {("router", around.router)}
    deadline = now() + FIND_SECONDS
    while now() < deadline and not any(_runs(reply) for reply in known.values()):
        members = {(kind, member.name) for kind in kinds for member in around.view.usable(kind)}
        asked = sorted(members - settled)
        if not asked:
            break
        for who, reply in zip(
            asked, await asyncio.gather(*(_ask(around, who, claim) for who in asked)), strict=True
        ):
            if reply is not None:
                settled.add(who)
                known |= {who: reply} if reply.known else {}
    return known


def _runs(reply: TokenHistory) -> bool:
    """Is it under way there? Whoever only remembers it has no epoch for it."""
    return reply.epoch >= 0


async def _ask(around: Surroundings, who: Who, claim: Claim) -> TokenHistory | None:
    """None: that cannot be known now."""
    nothing = TokenHistory(claim.session, False, ())
    try:
        question = ReplayTokens(claim.session, 0)
        reply = await around.view.request(around.bus, *who, question, timeout=ANSWER_SECONDS)
    except NoResponders:
        return nothing
    except XpodError as error:
        log.warning("no answer", session=claim.session, who=who[1], error=str(error))
        await asyncio.sleep(PAUSE_SECONDS)
        return None
    return reply if isinstance(reply, TokenHistory) else nothing


def _tokens(reply: TokenHistory) -> list[Token]:
    ids: Sequence[int] = reply.said.token_ids()
    return [*(Token(index, token, None) for index, token in enumerate(ids)), *map(token_of, reply.tokens)]


async def _let_others_go(around: Surroundings, claim: Claim, known: dict[Who, TokenHistory]) -> str:
    """Of those that compute it, the one that is furthest goes on; returns its name."""
    holder, *others = sorted(known, key=lambda who: (who[0] == "decode", known[who].epoch), reverse=True) or [
        ("", "")
    ]
    for kind, name in others:
        subject = subjects.mailbox(around.pod, kind, name)
        await around.bus.publish(subject, CancelSession(claim.session, known[kind, name].epoch))
    return holder[1]
