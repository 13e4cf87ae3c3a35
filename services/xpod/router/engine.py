"""The router's engine: opens sessions, and says whether the pod can serve and who is in it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

import structlog

from xpod.common.experts import ExpertDirectory
from xpod.common.service import now
from xpod.router.admission import Limit
from xpod.router.api.engine_protocol import (
    Affinity,
    Claim,
    KeyReused,
    NotReady,
    Output,
    Score,
    SessionError,
    UnknownMember,
)
from xpod.router.brokers import Brokers
from xpod.router.finding import find
from xpod.router.journal import Journal
from xpod.router.scoring import scores
from xpod.router.session import Facts, Found, LiveSession
from xpod.router.surroundings import Surroundings
from xpod.router.wire_tokens import event_of
from xpod_model.config import ModelConfig
from xpod_policy.membership import Change, Member
from xpod_proto import (
    CancelSession,
    MetricsText,
    PrefillDone,
    ReadMetrics,
    ReplayTokens,
    RunningSessions,
    SamplingSpec,
    SessionFailed,
    Tensor,
    TokenHistory,
    subjects,
)
from xpod_runtime import span_names as names
from xpod_runtime.errors import XpodError

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.1
METRICS_SECONDS = 2.0
EVERY_EPOCH = 2**31
ENDED_SECONDS = 30.0
"""A client that lost its connection at the very end may come back for so long."""


class Reading:
    """One client's way through a session; see `engine_protocol.Session`."""

    def __init__(self, session: LiveSession, attached: bool) -> None:
        self._session = session
        self._items = session.readers.begin()
        self.attached = attached

    @property
    def id(self) -> str:
        return self._session.id

    @property
    def cached_tokens(self) -> int:
        return self._session.cached_tokens

    @property
    def taken(self) -> float:
        return self._session.taken

    @property
    def recoveries(self) -> int:
        return self._session.recoveries

    async def __aiter__(self) -> AsyncIterator[Output]:
        while (item := await self._items.get()) is not None:
            if isinstance(item, SessionError):
                raise item
            yield Output(item.index, item.token, item.logprob or 0.0, item.top, item.finish)

    async def cancel(self) -> None:
        await self._session.cancel()

    async def leave(self) -> None:
        await self._session.readers.end(self._items)


class RouterEngine:
    """All sessions of one router, those that ended a moment ago, too. `limit` says how many there may be at once.

    Lasting ones are remembered for `keep` seconds after their end.
    """

    def __init__(
        self,
        around: Surroundings,
        model: ModelConfig,
        directory: ExpertDirectory,
        brokers: Brokers,
        *,
        journal: Journal,
        name: str,
        max_model_len: int,
        limit: Limit,
        keep: float,
    ) -> None:
        self._around = around
        self._model = model
        self._directory = directory
        self._brokers = brokers
        self._journal = journal
        self._limit = limit
        self._keep = keep
        self._began = now()
        self._sessions: dict[str, LiveSession] = {}
        self._claims: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.model_name = name
        self.max_model_len = max_model_len
        self.vocab_size = model.vocab
        self.eos_token_ids = model.eos_token_ids

    @property
    def live(self) -> int:
        """Sessions under way."""
        return sum(not session.done for session in self._sessions.values())

    @property
    def waiting(self) -> int:
        """Sessions that wait for their turn."""
        return self._around.admission.waiting

    @property
    def divergences(self) -> int:
        """Duplicate tokens that differed from the first."""
        return self._around.counters.divergences_seen

    async def open(
        self,
        prompt: list[int],
        sampling: SamplingSpec,
        claim: Claim | None = None,
        affinity: Affinity | None = None,
    ) -> Reading:
        """See `engine_protocol.Engine`."""
        ties = affinity or Affinity()
        id = f"s{secrets.token_hex(12)}" if claim is None else claim.session
        facts = Facts(
            id,
            Tensor.of_tokens(prompt),
            sampling,
            salt=ties.salt,
            conversation=ties.conversation,
            tenant=ties.tenant,
            priority=ties.priority,
        )
        if claim is None:
            return await self._begin(facts, Found())
        async with self._claims.setdefault(claim.session, asyncio.Lock()):
            here = self._sessions.get(claim.session)
            if here is not None and _serves(here, claim):
                return Reading(here, attached=True)
            ours = [] if here is None else here.tokens
            with self._around.tracer.span(names.FIND, session=id) as span:
                found = await find(self._around, self._journal, claim, ours)
                span.set(tokens=len(found.tokens), worker=found.worker, router=found.router)
            return await self._begin(replace(facts, request=claim.request, lasting=claim.lasting), found)

    async def scores(
        self, prompt: list[int], alternatives: int, affinity: Affinity | None = None
    ) -> list[Score]:
        """See `engine_protocol.Engine`."""
        ready, reason = self.ready()
        if not ready:
            raise NotReady(reason)
        return await scores(self._around, Tensor.of_tokens(prompt), alternatives, affinity or Affinity())

    async def cancel(self, session: str) -> None:
        """See `engine_protocol.Engine`. The other routers are told first: one of them may own the session."""
        around = self._around
        others = [member for member in around.view.usable("router") if member.name != around.router]
        word = CancelSession(session, EVERY_EPOCH)
        asked = (
            around.view.request(around.bus, "router", other.name, word, timeout=around.patience.answer)
            for other in others
        )
        for failure in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(failure, BaseException):
                if not isinstance(failure, XpodError):
                    raise failure
                log.warning("a router was not told of a cancel", session=session, error=str(failure))
        await self.cancelled(session)

    async def cancelled(self, session: str) -> None:
        """Its client cancelled it, here or at another router."""
        if (live := self._sessions.get(session)) is not None:
            await live.abandon(SessionError("cancelled", "its client cancelled it"))

    async def _begin(self, facts: Facts, found: Found) -> Reading:
        ready, reason = self.ready()
        if not ready:
            raise NotReady(reason)
        live = Counter(each.facts.tenant for each in self._sessions.values() if not each.done)
        self._limit.check(facts.tenant, live, self._next_end())
        session = LiveSession(self._around, facts)
        self._sessions[session.id] = session
        self._around.counters.sessions.inc()
        reading = Reading(session, attached=bool(found.tokens or found.router))
        try:
            await session.begin(found)
        except BaseException:  # a client that left in this moment must not leave a session behind
            await session.cancel()
            raise
        return reading

    def _next_end(self) -> float:
        """Seconds until some session is likely to end: as many will as did lately."""
        window = min(ENDED_SECONDS, now() - self._began)
        ended = sum(each.done and each.ended > now() - window for each in self._sessions.values())
        return window / max(1, ended)

    def remembered(self) -> list[LiveSession]:
        """Sessions that somebody may still ask for; the others are forgotten."""
        for id, session in list(self._sessions.items()):
            keep = self._keep if session.facts.lasting and not session.failed else ENDED_SECONDS
            if session.done and now() - session.ended > keep:
                del self._sessions[id]
        return list(self._sessions.values())

    async def watch_silences(self) -> None:
        """Look after sessions whose worker says nothing, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._look_after_silent_ones()

    def _look_after_silent_ones(self) -> None:
        moment = now()
        for session in list(self._sessions.values()):
            session.look(moment)

    # what others ask

    def history(self, question: ReplayTokens) -> TokenHistory:
        """What we have said of a session that is ours, for another router."""
        session = self._sessions.get(question.session)
        if session is None or session.failed or not (session.facts.lasting or not session.done):
            return TokenHistory(question.session, False, ())
        events = tuple(
            event_of(session.id, session.epoch, token) for token in session.tokens[question.start :]
        )
        return TokenHistory(session.id, True, events, epoch=session.epoch, request=session.facts.request)

    async def running(self, message: RunningSessions) -> None:
        """Cancel what a worker computes for nobody: it hung while its work was given away, or missed our word."""
        for id, epoch, router in message.sessions:
            session = self._sessions.get(id)
            if session is None or session.follows:
                continue
            over = session.done and router == self._around.router
            moved = (
                not session.done and session.worker not in (None, message.worker) and epoch <= session.epoch
            )
            if over or moved:
                log.info("cancelled what nobody needs", session=id, worker=message.worker, epoch=epoch)
                subject = subjects.mailbox(self._around.pod, message.kind, message.worker)
                await self._around.bus.publish(subject, CancelSession(id, epoch))

    # what the pod says

    def prefill_done(self, message: PrefillDone) -> None:
        if (session := self._sessions.get(message.session)) is not None:
            session.on_prefill_done(message)

    def session_failed(self, message: SessionFailed) -> None:
        if (session := self._sessions.get(message.session)) is not None:
            session.on_failed(message)

    async def member_changed(self, change: Change) -> None:
        """A member that died, or came back as another process, has lost its sessions."""
        member = change.member
        if not member.alive or change.reborn:
            for session in list(self._sessions.values()):
                session.on_lost(member.name, f"{member.name} is down: {change.reason}")

    def reconnected(self) -> None:
        """What was said while nobody listened has to be asked for."""
        for session in list(self._sessions.values()):
            session.ask()

    def heartbeat(self, member: str) -> None:
        """The member's load is fresh: what was sent to it is counted there."""
        self._around.placing.heartbeat(member)

    # what the pod is

    def reaches_pod(self) -> bool:
        """See `engine_protocol.Engine`."""
        return self._around.bus.is_connected

    def ready(self) -> tuple[bool, str]:
        """Whether every part of a token's way is there, and if not, what is missing."""
        for kind in ("prefill", "decode"):
            if not self._around.view.usable(kind):
                return False, f"no {kind} worker is up"
        missing = self._directory.routing.missing()
        if missing:
            layer, expert = missing[0]
            return (
                False,
                f"{len(missing)} experts are not loaded yet, the first is expert {expert} of layer {layer}",
            )
        return True, ""

    async def metrics_of(self, member: str) -> str:
        """What a member measures. Raises UnknownMember, XpodError."""
        view, known = self._around.view, self._around.view.table.members.get(member)
        if known is None:
            raise UnknownMember(f"the pod has no member {member}")
        asked = ReadMetrics(self._around.router)
        reply = await view.request(self._around.bus, known.kind, member, asked, timeout=METRICS_SECONDS)
        return reply.text if isinstance(reply, MetricsText) else ""

    def status(self) -> dict[str, Any]:
        """The object of `xpod status --json`."""
        routing = self._directory.routing
        members = sorted(self._around.view.table.members.values(), key=lambda m: (m.kind, m.name))
        experts = {
            str(layer): {str(e): list(routing.holders(layer, e)) for e in range(routing.experts)}
            for layer in routing.moe_layers
        }
        epochs = [m.load.get("placement_epoch", 0) for m in members if m.kind == "expert"]
        return {
            "pod": self._around.pod,
            "model": self.model_name,
            "ready": self.ready()[0],
            "members": [*self._brokers.members(), *(_describe(member) for member in members)],
            "placement": {
                "epoch": max((e for e in epochs if isinstance(e, int)), default=0),
                "experts": experts,
            },
            "endpoints": sorted(
                str(m.detail["url"]) for m in members if m.kind == "router" and "url" in m.detail
            ),
        }


def _serves(session: LiveSession, claim: Claim) -> bool:
    """Can the claim be served from the session as it is? Raises KeyReused."""
    if claim.lasting and session.facts.request != claim.request:
        raise KeyReused("this Idempotency-Key came with another request before")
    return not session.failed and (not session.done or session.whole or session.facts.lasting)


def _describe(member: Member) -> dict[str, Any]:
    """`since` is a Unix time: since when it is in that state."""
    return {
        "id": member.name,
        "kind": member.kind,
        "pid": member.pid,
        "host": member.host,
        "state": member.state,
        "since": round(time.time() - (now() - member.since), 3),
        "detail": {**member.detail, **member.load, "fingerprint": member.fingerprint},
    }
