"""One live session: carries out what the pure session machine says.

The machine decides, this file publishes, waits and hands tokens to the client. Every wait has an end, and every
end is told: a session never hangs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from xpod.common.view import PodView
from xpod.router.api.engine_protocol import Output, SessionError
from xpod.router.counters import Counters
from xpod_policy import session as machine
from xpod_policy.blocks import blocks_for
from xpod_policy.choose import choose_decode, choose_prefill
from xpod_policy.membership import Member
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
from xpod_runtime.bus import Bus, Subscription
from xpod_runtime.errors import NoResponders, XpodError

log = structlog.get_logger(__name__)
FINAL_CODES = frozenset({"context_length_exceeded", "bad_request"})


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: without any worker, in the queue for a busy one, before a silent one is asked, for an answer."""

    place: float = 30.0
    queue: float = 600.0
    silence: float = 5.0
    answer: float = 5.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all sessions of a router share. `sent` counts work given out that heartbeats do not show yet."""

    bus: Bus
    pod: str
    router: str
    view: PodView
    counters: Counters
    patience: Patience
    sent: dict[str, int]


class LiveSession:
    """Open it, iterate over its tokens, and cancel it if you leave before the end."""

    def __init__(self, around: Surroundings, id: str, prompt: Sequence[int], sampling: SamplingSpec) -> None:
        self.id = id
        self._around = around
        self._prompt = Tensor.of_tokens(prompt)
        self._sampling = sampling
        self._longest = len(prompt) + sampling.max_tokens
        self._machine = machine.Session(id)
        self._out: asyncio.Queue[machine.Token | SessionError | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None
        self._heard = time.monotonic()
        self._kinds: dict[str, str] = {}
        self._counted = 0

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens whose KV was found in MemPool."""
        return self._machine.cached

    @property
    def recoveries(self) -> int:
        """How often a worker had to be replaced."""
        return self._machine.recoveries

    @property
    def done(self) -> bool:
        return self._machine.phase == "done"

    async def open(self, said: Sequence[int] = ()) -> None:
        """Listen for tokens, then begin, or go on behind what was said before."""
        subject = subjects.tokens(self._around.pod, self.id)
        self._subscription = await self._around.bus.subscribe(subject, self._on_token)
        self._apply(self._machine.open(said))
        self._spawn(self._watch())

    async def __aiter__(self) -> AsyncIterator[Output]:
        while True:
            item = await self._out.get()
            if isinstance(item, SessionError):
                raise item
            if item is None:
                return
            yield Output(item.index, item.token, item.logprob, item.top, item.finish)

    async def cancel(self) -> None:
        """Nobody wants the rest: free the workers. Does nothing after the end."""
        self._apply(self._machine.cancel())
        self._out.put_nowait(None)
        await self.close()

    async def close(self) -> None:
        """Stop listening; the messages already under way are still sent."""
        if self._subscription is not None:
            await self._subscription.unsubscribe()
            self._subscription = None

    # events

    async def _on_token(self, message: object) -> None:
        if isinstance(message, TokenEvent):
            self._heard = time.monotonic()
            self._apply(self._machine.token(_token(message)))

    def on_prefill_done(self, message: PrefillDone) -> None:
        self._heard = time.monotonic()
        self._apply(self._machine.prefill_done(message.epoch, _token(message.first)))

    def on_failed(self, message: SessionFailed) -> None:
        self._apply(self._machine.worker_failed(message.epoch, message.worker, message.code, message.reason))

    def on_lost(self, worker: str, reason: str) -> None:
        self._apply(self._machine.worker_lost(worker, reason))

    async def _watch(self) -> None:
        """Ask a worker that has been silent for long."""
        patience = self._around.patience
        while not self.done:
            await asyncio.sleep(patience.silence / 4)
            if time.monotonic() - self._heard > patience.silence:
                self.ask()

    def ask(self) -> None:
        """Has the worker said something that did not arrive?"""
        self._heard = time.monotonic()
        self._apply(self._machine.silent())

    # instructions

    def _apply(self, instructions: list[machine.Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case machine.Emit(token):
                    self._out.put_nowait(token)
                case machine.Finish():
                    self._out.put_nowait(None)
                    self._spawn(self.close())
                case machine.Fail(code, reason):
                    log.error("session failed", session=self.id, code=code, reason=reason)
                    self._out.put_nowait(SessionError(code, reason))
                    self._spawn(self.close())
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

    def _count_recovery(self) -> None:
        fresh = self._machine.recoveries - self._counted
        self._around.counters.recoveries.inc(fresh)
        self._counted += fresh

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
        patience, view = self._around.patience, self._around.view
        began = served = time.monotonic()
        avoid: set[str] = set()
        reason = f"no {kind} worker is there"
        while not self.done and self._machine.epoch == epoch:
            worker = self._choose(kind, avoid)
            if worker is not None:
                refusal = await self._give(kind, worker, epoch)
                if refusal is None:
                    self._apply(self._machine.assigned(epoch, worker.name))
                    return
                reason = f"{worker.name}: {refusal}"
                avoid.add(worker.name)
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
                await view.changed(0.25)

    def _choose(self, kind: str, avoid: set[str]) -> Member | None:
        members = self._around.view.usable(kind)
        if kind == "prefill":
            return choose_prefill(members, self._around.sent, avoid)
        return choose_decode(members, blocks_for(self._longest), self._around.sent, avoid)

    async def _give(self, kind: str, worker: Member, epoch: int) -> XpodError | None:
        """Offer the session to a worker; returns why it is not taken, or None."""
        around = self._around
        self._kinds[worker.name] = kind
        self._heard = time.monotonic()
        task: PrefillTask | DecodeTask
        if kind == "prefill":
            weight = self._prompt.shape[0]
            task = PrefillTask(self.id, epoch, around.router, self._prompt, self._sampling)
        else:
            weight = blocks_for(self._longest)
            said = Tensor.of_tokens([token.token for token in self._machine.tokens])
            task = DecodeTask(self.id, epoch, around.router, self._prompt, said, self._sampling)
        around.sent[worker.name] = around.sent.get(worker.name, 0) + weight
        try:
            await around.view.request(around.bus, kind, worker.name, task, timeout=around.patience.answer)
        except XpodError as error:
            return error
        return None

    async def _ask(self, worker: str, start: int) -> None:
        """What has the worker said since? One that does not know the session has lost it."""
        around, question = self._around, ReplayTokens(self.id, start)
        try:
            reply = await around.view.request(
                around.bus, self._kinds[worker], worker, question, timeout=around.patience.answer
            )
        except NoResponders as error:
            return self.on_lost(worker, str(error))
        except XpodError as error:
            log.warning("worker did not answer", session=self.id, worker=worker, error=str(error))
            return None
        if isinstance(reply, TokenHistory):
            for event in reply.tokens:
                self._apply(self._machine.token(_token(event)))
            if not reply.known:
                self.on_lost(worker, f"{worker} does not know the session")
        return None

    async def _release(self, worker: str, epoch: int) -> None:
        subject = subjects.mailbox(self._around.pod, self._kinds[worker], worker)
        await self._around.bus.publish(subject, CancelSession(self.id, epoch))


def _token(event: TokenEvent) -> machine.Token:
    return machine.Token(event.index, event.token, event.logprob, event.top, event.finish, event.cached)
