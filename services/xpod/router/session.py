"""One live session: carries out what the pure session machine says.

The machine decides, this file publishes, waits and hands tokens to the client. Every wait has an end, and every
end is told: a session never hangs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import structlog

from xpod.router.admission import Pass
from xpod.router.api.engine_protocol import SessionError
from xpod.router.placing import Place
from xpod.router.reading import Readers
from xpod.router.session_trace import SessionTrace
from xpod.router.surroundings import Surroundings
from xpod.router.wire_tokens import token_of
from xpod_policy import session as machine
from xpod_policy.blocks import blocks_for
from xpod_proto import (
    CancelSession,
    DecodeTask,
    PrefillDone,
    PrefillTask,
    ReplayTokens,
    SamplingSpec,
    SessionFailed,
    Tensor,
    TokenEvent,
    TokenHistory,
    subjects,
)
from xpod_runtime.bus import Subscription
from xpod_runtime.errors import NoResponders, XpodError

log = structlog.get_logger(__name__)
FINAL_CODES = frozenset({"context_length_exceeded", "bad_request"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What makes a session's tokens, who it is, and `request`, the digest of the client's request.

    One that is `lasting` goes on when nobody reads it. KV is shared with sessions of the same `salt` only; those of one
    `conversation` may go to one prefill worker (empty: this session is all of it). Sessions that wait go tenant by
    tenant in turn, and of each tenant's the lowest `priority` first.
    """

    id: str
    prompt: Tensor
    sampling: SamplingSpec
    request: bytes = b""
    lasting: bool = False
    salt: str = ""
    conversation: str = ""
    tenant: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What is left of a session: its first tokens, the last epoch that anybody knows.

    `worker` computes it still; or `router` owns it, and will say all of it.
    """

    tokens: list[machine.Token] = field(default_factory=list)
    epoch: int = -1
    worker: str = ""
    router: str = ""


class LiveSession:
    """Begin it, and read it through `readers`; it ends by itself, or with its last reader."""

    def __init__(self, around: Surroundings, facts: Facts) -> None:
        self.id = facts.id
        self.facts = facts
        self.readers = Readers(self._forsaken)
        self.failed = False
        self.ended = 0.0
        """When, on the clock of deadlines; 0 while it is under way."""
        self.taken = 0.0
        """When the first worker took it, on that clock; 0 before."""
        self._around = around
        self._longest = facts.prompt.shape[0] + facts.sampling.max_tokens
        self._machine = machine.Session(facts.id)
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None
        self._heard = time.monotonic()
        self._kinds: dict[str, str] = {}
        self._holder = ""
        self._counted = 0
        self._pass: Pass | None = None
        self._trace = SessionTrace(around.tracer, facts.id, facts.prompt.shape[0])

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens whose KV was found in MemPool."""
        return self._machine.cached

    @property
    def recoveries(self) -> int:
        """How often a worker had to be replaced."""
        return self._machine.recoveries

    @property
    def tokens(self) -> list[machine.Token]:
        """What has been said to clients so far."""
        return self._machine.tokens

    @property
    def epoch(self) -> int:
        return self._machine.epoch

    @property
    def worker(self) -> str | None:
        """Who has it now: a worker, or the router that is followed."""
        return self._machine.worker

    @property
    def follows(self) -> bool:
        """Does another router own it?"""
        return self._machine.phase == "follow"

    @property
    def done(self) -> bool:
        return self._machine.phase == "done"

    @property
    def whole(self) -> bool:
        """Is the last token there?"""
        return bool(self.tokens) and bool(self.tokens[-1].finish)

    async def begin(self, found: Found) -> None:
        """Listen for tokens; then begin, or go on from what was found of it."""
        subject = subjects.tokens(self._around.pod, self.id)
        self._subscription = await self._around.bus.subscribe(subject, self._on_token)
        if found.router:
            self._kinds[found.router] = "router"
            self._apply(self._machine.follow(found.router))
        else:
            self._holder = found.worker
            self._apply(self._machine.open(found.tokens, found.epoch + 1))

    async def _forsaken(self) -> None:
        if not self.facts.lasting:
            await self.cancel()

    async def cancel(self) -> None:
        """Nobody wants the rest: free the workers. Does nothing after the end."""
        await self.abandon(None)

    async def abandon(self, why: SessionError | None) -> None:
        """The same, and tell all readers why."""
        if not self.done:
            self._apply(self._machine.cancel())
            self._over(why)
        await self.close()

    def _over(self, item: SessionError | None) -> None:
        self.failed = item is not None
        self.ended = time.monotonic()
        self.readers.say(item)
        self._trace.over("" if item is None else str(item), recoveries=self.recoveries, whole=self.whole)
        self._spawn(self.close())

    async def close(self) -> None:
        """Stop listening; the messages already under way are still sent."""
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            await subscription.unsubscribe()

    # events

    async def _on_token(self, message: object) -> None:
        if isinstance(message, TokenEvent):
            self._heard = time.monotonic()
            self._apply(self._machine.token(token_of(message)))

    def on_prefill_done(self, message: PrefillDone) -> None:
        self._heard = time.monotonic()
        self._apply(self._machine.prefill_done(message.epoch, token_of(message.first)))

    def on_failed(self, message: SessionFailed) -> None:
        self._trace.why = f"{message.worker}: {message.reason}"
        self._apply(self._machine.worker_failed(message.epoch, message.worker, message.code, message.reason))

    def on_lost(self, worker: str, reason: str) -> None:
        self._trace.why = reason
        self._apply(self._machine.worker_lost(worker, reason))

    def look(self, now: float) -> None:
        """Has the worker been silent for long? First we ask whether it lives, later what it has said."""
        silence = now - self._heard
        if self.done or self.worker is None:
            return
        if silence > self._around.patience.silence:
            self.ask()
        elif silence > self._around.patience.doubt:
            self._around.view.doubt(self.worker)

    def ask(self) -> None:
        """Has the worker said something that did not arrive?"""
        self._heard = time.monotonic()
        self._apply(self._machine.silent())

    # instructions

    def _apply(self, instructions: list[machine.Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case machine.Emit(token):
                    self.readers.say(token)
                    self._trace.said(token)
                case machine.Finish():
                    self._over(None)
                case machine.Fail(code, reason):
                    log.error("session failed", session=self.id, code=code, reason=reason)
                    self._over(SessionError(code, reason))
                case machine.Start(kind, epoch):
                    self._count_recovery()
                    self._spawn(self._place(kind, epoch))
                case machine.Ask(worker, start):
                    self._spawn(self._ask(worker, start))
                case machine.Release(worker, last):
                    self._spawn(self._release(worker, last))
                case machine.Diverged(index, first, second):
                    self._around.counters.diverged()
                    log.critical("DIVERGENCE", session=self.id, index=index, first=first, second=second)
        if self._pass is not None and self._machine.phase != "prefill":
            through, self._pass = self._pass, None
            through.leave()

    def _count_recovery(self) -> None:
        fresh = self._machine.recoveries - self._counted
        self._around.counters.recoveries.inc(fresh)
        self._counted += fresh
        if fresh:
            self._trace.lost(self.recoveries)
        else:
            self._trace.through()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("session task failed", session=self.id, exc_info=error)
            self._apply(
                self._machine.unplaced(self._machine.epoch, "internal", f"{type(error).__name__}: {error}")
            )

    async def _place(self, kind: str, epoch: int) -> None:
        """Find a worker that accepts the session; a refusal sends us to the next one."""
        if kind == "prefill" and not self._holder:
            with self._trace.admission():
                await self._admitted(epoch)
        with self._trace.place(kind, epoch), ExitStack() as waiting:
            await self._offer(kind, epoch, waiting)

    async def _admitted(self, epoch: int) -> None:
        """Returns when it is our turn, which stays ours until the prompt is computed, or nothing is left to place."""
        facts, around = self.facts, self._around
        if self._pass is None:
            cost = around.placing.uncached(facts.prompt, facts.salt)
            self._pass = around.admission.enter(facts.tenant, cost, facts.priority)
        try:
            async with asyncio.timeout(around.patience.queue):
                await self._pass.granted()
        except TimeoutError:
            self._apply(self._machine.unplaced(epoch, "queue_timeout", "others were before it all that time"))

    async def _offer(self, kind: str, epoch: int, waiting: ExitStack) -> None:
        """Until a worker takes it, or there is no sense in it any more; `waiting` ends with that."""
        patience, view = self._around.patience, self._around.view
        homeless = False
        began = served = time.monotonic()
        avoid: set[str] = set()
        reason = f"no {kind} worker is there"
        while not self.done and self._machine.epoch == epoch:
            place = self._choose(kind, avoid)
            if place is not None:
                worker = place.member.name
                refusal = await self._give(kind, place, epoch)
                if refusal is None:
                    self._apply(self._machine.assigned(epoch, worker))
                    if worker == self._holder and not self.done:
                        self.ask()  # it went on while we took over
                    self._holder = ""
                    return
                reason = f"{worker}: {refusal}"
                avoid.add(worker)
                if refusal.code in FINAL_CODES:
                    self._apply(self._machine.unplaced(epoch, refusal.code, str(refusal)))
                continue
            now = time.monotonic()
            served = now if view.usable(kind) else served
            if now - served > patience.place:
                self._apply(self._machine.unplaced(epoch, "no_worker", reason))
            elif now - began > patience.queue:
                self._apply(self._machine.unplaced(epoch, "queue_timeout", f"every {kind} worker is full"))
            else:
                avoid.clear()
                if kind == "decode" and not homeless:
                    homeless = True
                    waiting.enter_context(self._around.admission.homeless(self.facts.tenant))
                await view.changed(0.25)

    def _choose(self, kind: str, avoid: set[str]) -> Place | None:
        placing, facts = self._around.placing, self.facts
        holder = None if self._holder in avoid else placing.holder(kind, self._holder)
        if holder is not None:
            return holder
        if kind == "prefill":
            return placing.prefill(facts.prompt, facts.salt, facts.conversation or facts.id, avoid)
        return placing.decode(blocks_for(self._longest), avoid)

    async def _give(self, kind: str, place: Place, epoch: int) -> XpodError | None:
        """Offer the session to a worker; returns why it is not taken, or None."""
        around, name = self._around, place.member.name
        self._kinds[name] = kind
        self._heard = time.monotonic()
        task = self._task(kind, epoch)
        around.placing.sends(place)
        try:
            with self._trace.offer(kind, epoch, name):
                await around.view.request(around.bus, kind, name, task, timeout=around.patience.answer)
        except XpodError as error:
            return error
        around.placing.taken(place)
        self.taken = self.taken or time.monotonic()
        return None

    def _task(self, kind: str, epoch: int) -> PrefillTask | DecodeTask:
        router, facts = self._around.router, self.facts
        prompt, sampling, salt = facts.prompt, facts.sampling, facts.salt
        if kind == "prefill":
            return PrefillTask(self.id, epoch, router, prompt, sampling, salt, facts.tenant, facts.priority)
        said = Tensor.of_tokens([token.token for token in self._machine.tokens])
        return DecodeTask(self.id, epoch, router, prompt, said, sampling, salt)

    async def _ask(self, worker: str, start: int) -> None:
        """What has the worker said since? One that does not know the session has lost it."""
        around = self._around
        try:
            reply = await around.view.request(
                around.bus,
                self._kinds[worker],
                worker,
                ReplayTokens(self.id, start),
                timeout=around.patience.answer,
            )
        except NoResponders as error:
            return self.on_lost(worker, str(error))
        except XpodError as error:
            log.warning("worker did not answer", session=self.id, worker=worker, error=str(error))
            return None
        if isinstance(reply, TokenHistory):
            for event in reply.tokens:
                self._apply(self._machine.token(token_of(event)))
            if not reply.known:
                self.on_lost(worker, f"{worker} does not know the session")
            elif self._kinds[worker] == "prefill" and reply.epoch < 0 and self.tokens:
                # It is through, and what it said of that did not arrive.
                self._apply(self._machine.prefill_done(self._machine.epoch, self.tokens[0]))
        return None

    async def _release(self, worker: str, epoch: int) -> None:
        subject = subjects.mailbox(self._around.pod, self._kinds[worker], worker)
        await self._around.bus.publish(subject, CancelSession(self.id, epoch))
