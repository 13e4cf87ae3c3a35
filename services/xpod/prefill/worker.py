"""A prefill worker: a prompt in chunks, its KV to MemPool, token 0 to the client.

Tasks wait in order of arrival for a slot and KV room. Chunks of several prompts share a step. Blocks go to
MemPool as they fill; PrefillDone is said when all of them have arrived there.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict, deque

from xpod.attention.engine import Full, Step
from xpod.attention.sequence import Sequence
from xpod.attention.worker import JUST_ENDED, Worker, WorkerConfig
from xpod_proto import (
    Ack,
    BlockData,
    CancelSession,
    Message,
    PrefillDone,
    PrefillTask,
    ReplayTokens,
    TokenEvent,
    TokenHistory,
    subjects,
)
from xpod_proto.messages import Value
from xpod_runtime.bus import Bus
from xpod_runtime.errors import Busy
from xpod_runtime.handlers import handles


class PrefillConfig(WorkerConfig):
    kind = "prefill"

    max_num_seqs: int = 16
    micro_batches: int = 2
    micro_batch_tokens: int = 128
    max_queue: int = 1024


class Prefill(Worker):
    """Chunked prefill; a sequence leaves with its first token."""

    kind = "prefill"
    config: PrefillConfig

    def __init__(self, config: PrefillConfig, data: Bus, control: Bus) -> None:
        super().__init__(config, data, control)
        self._waiting: OrderedDict[str, Sequence] = OrderedDict()
        self._finishing: dict[str, Sequence] = {}
        self._done: deque[tuple[str, PrefillDone]] = deque(maxlen=JUST_ENDED)
        """Lately said, and to which router."""
        self._stores: defaultdict[str, list[asyncio.Task[None]]] = defaultdict(list)

    def load(self) -> dict[str, Value]:
        waiting = sum(len(sequence.prompt) for sequence in self._waiting.values())
        running = self.engine.batch.tokens_left if hasattr(self, "engine") else 0
        return {**super().load(), "queued_tokens": waiting + running, "waiting": len(self._waiting)}

    @handles(PrefillTask)
    async def on_task(self, task: PrefillTask) -> Message:
        """Queue a prompt. One that can never fit is refused at once."""
        self.refuse_when_draining()
        session = task.session
        known = self._waiting.get(session) or self._running(session) or self._finishing.get(session)
        if known is not None:
            known.epoch, known.router = max(known.epoch, task.epoch), task.router
            return Ack("already queued")
        for _, done in self._done:
            if (done.session, done.epoch) == (session, task.epoch):
                self.spawn(self._say_done(task.router, done))
                return Ack("already through")
        if len(self._waiting) >= self.config.max_queue:
            raise Busy(f"{self.member} has {len(self._waiting)} prompts waiting")
        sequence = Sequence(task.session, task.epoch, task.router, task.prompt.tolist(), [], task.sampling)
        self.engine.check(sequence, len(sequence.prompt))
        self._waiting[sequence.id] = sequence
        self._admit()
        return Ack()

    def _running(self, session: str) -> Sequence | None:
        return self.engine.sequences.get(session) if self.engine.wanted(session) else None

    def _admit(self) -> None:
        """Give waiting prompts, in order, the room there is."""
        while self._waiting:
            sequence = next(iter(self._waiting.values()))
            try:
                self.engine.open(sequence, len(sequence.prompt))
            except Full:
                return
            del self._waiting[sequence.id]
            self.spawn(self.start_joining(sequence))

    async def after(self, step: Step) -> None:
        for sequence, blocks in step.filled:
            self._stores[sequence.id].append(asyncio.create_task(self.pool.store(blocks)))
        for sequence, event in step.said:
            if not self.engine.wanted(sequence.id):
                continue
            await self.say(event)
            tail = await self.engine.tail(sequence)
            self.remember(sequence)
            self.engine.close(sequence.id)
            self._finishing[sequence.id] = sequence
            self.spawn(self._finish(sequence, event, tail))
        self._admit()

    async def _finish(self, sequence: Sequence, event: TokenEvent, tail: list[BlockData]) -> None:
        """Wait until MemPool has the whole prompt, then say so."""
        await asyncio.gather(self.pool.store(tail), *self._stores.pop(sequence.id, []))
        done = PrefillDone(sequence.id, sequence.epoch, self.member, event)
        self._done.append((sequence.router, done))
        await self._say_done(sequence.router, done)
        del self._finishing[sequence.id]
        self.see_if_idle()

    async def _say_done(self, router: str, done: PrefillDone) -> None:
        await self.data.publish(subjects.mailbox(self.pod, "router", router), done)

    def say_last_again(self) -> None:
        super().say_last_again()
        for router, done in self._done:
            self.spawn(self._say_done(router, done))

    def working(self) -> bool:
        return bool(self._waiting or self._finishing) or super().working()

    @handles(CancelSession)
    async def on_cancel(self, message: CancelSession) -> None:
        waiting = self._waiting.get(message.session)
        if waiting is not None and waiting.epoch <= message.epoch:
            del self._waiting[message.session]
        await super().on_cancel(message)
        self._admit()

    @handles(ReplayTokens)
    async def on_replay(self, message: ReplayTokens) -> Message:
        waiting = self._waiting.get(message.session)
        if waiting is not None:
            return TokenHistory(message.session, True, (), epoch=waiting.epoch)
        finishing = self._finishing.get(message.session)
        if finishing is not None:
            events = tuple(event for event in finishing.events if event.index >= message.start)
            return TokenHistory(message.session, True, events, epoch=finishing.epoch)
        return await super().on_replay(message)

    async def drain(self) -> None:
        """Let queued prompts finish; those that do not in time go to another worker."""
        try:
            self.see_if_idle()
            await self.idle.wait()
        finally:
            for sequence in [*self._waiting.values(), *self.engine.sequences.values()]:
                await self.fail(sequence, "draining", f"{self.member} is leaving")
