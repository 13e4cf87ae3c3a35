"""A prefill worker: a prompt in chunks, its KV to MemPool, token 0 to the client.

Tasks wait in order of arrival for a slot and KV room. Chunks of several prompts share a step. Blocks go to
MemPool as they fill; PrefillDone is said when all of them have arrived there.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict, deque
from collections.abc import Coroutine
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from xpod.attention.departure import Sink
from xpod.attention.engine import Full, Step
from xpod.attention.outgoing import Outgoing
from xpod.attention.past import JUST_ENDED
from xpod.attention.sequence import Sequence
from xpod.attention.sequence_trace import SequenceTrace
from xpod.attention.tables import Keeping
from xpod.attention.tasks import sequence_of
from xpod.attention.worker import Worker, WorkerConfig
from xpod.common.block_news import BlockNews
from xpod.prefill.scoring import Scoring, task_of
from xpod_model.scores import Scores
from xpod_policy.blocks import BLOCK_TOKENS, BlockRef
from xpod_policy.cost import pairs_of
from xpod_proto import (
    Ack,
    BlockData,
    CancelSession,
    ListBlocks,
    Message,
    PrefillDone,
    PrefillTask,
    ReplayTokens,
    ScorePrompt,
    TokenEvent,
    TokenHistory,
    subjects,
)
from xpod_proto.messages import Value
from xpod_runtime import span_names as names
from xpod_runtime.bus import Bus
from xpod_runtime.errors import Busy, XpodError
from xpod_runtime.handlers import handles
from xpod_runtime.trace_context import within

PROBE_SECONDS = 5.0
PROBES = ((1, 0), (4, 0), (8, 0), (4, 8))
"""Steps to measure: tokens, and tokens before them, in sixteenths of the largest step."""


class PrefillConfig(WorkerConfig):
    kind = "prefill"

    max_num_seqs: int = 16
    micro_batches: int = 2
    micro_batch_tokens: int = 128
    max_queue: int = 1024
    layerwise: Annotated[bool, Field(description="send KV while the rest of the step computes")] = False
    probe: Annotated[bool, Field(description="measure at the start what prompts cost")] = True


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
        self._scoring = Scoring()
        self._came = asyncio.Event()
        self._stores: defaultdict[str, list[asyncio.Task[None]]] = defaultdict(list)

    async def setup(self) -> None:
        self._news = BlockNews(
            self.control,
            self.pod,
            member=self.member,
            incarnation=self.incarnation,
            names=lambda: self.engine.tables.names if hasattr(self, "engine") else (),
        )
        await super().setup()
        self.permanent("news", self._news.watch)
        self.permanent("between", self._between)
        if self.config.probe:
            self.spawn(self._probe())

    async def _probe(self) -> None:
        """What prompts cost here, as soon as there are experts: routers want to know before the first one comes."""
        part = self.config.max_num_batched_tokens / 16
        while self.experts.routing.missing():
            await self.experts.changed(self.experts.version, PROBE_SECONDS)
        for count, after in ((max(1, int(count * part)), int(after * part)) for count, after in PROBES):
            try:
                seconds = await self.engine.measure(count, after)
            except XpodError as error:
                self.log.warning("what prompts cost was not measured", error=str(error))
                return
            self.costs.took(count, pairs_of(count, after), seconds)

    @handles(ListBlocks)
    async def on_list(self, message: ListBlocks) -> Message:
        """Routers know what is kept here."""
        return self._news.listing()

    def keeping(self, most: int) -> Keeping:
        if not self.config.caching.prefill_keeps:
            return Keeping()
        return Keeping(most, self._news.added, self._news.removed)

    def sink(self) -> Sink | None:
        return partial(Outgoing, self.pool) if self.config.layerwise else None

    def load(self) -> dict[str, Value]:
        if not hasattr(self, "engine"):
            return {"queued_tokens": 0, "waiting": 0}
        waiting = sum(len(each.prompt) - self.engine.tables.prefix(each) for each in self._waiting.values())
        queued = waiting + self.engine.batch.tokens_left
        told = {
            "queued_tokens": queued,
            "waiting": len(self._waiting),
            "kv_sequence": self._news.sequence,
            "steps_between": self.engine.steps_between,
            **self.costs.told(),
        }
        if self.costs.prefill is not None:
            told["queued_seconds"] = round(self.costs.prefill.seconds(queued), 6)
        return {**super().load(), **told}

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
        self._enqueue(sequence_of(task, self.root, self.config.caching))
        self._admit()
        return Ack()

    def _enqueue(self, sequence: Sequence) -> None:
        if len(self._waiting) >= self.config.max_queue:
            raise Busy(f"{self.member} has {len(self._waiting)} prompts waiting")
        self.engine.check(sequence, len(sequence.prompt))
        sequence.trace = SequenceTrace(
            self.tracer, names.PREFILL, session=sequence.id, epoch=sequence.epoch, known=sequence.known
        )
        sequence.trace.waits()
        self._waiting[sequence.id] = sequence

    @handles(ScorePrompt)
    async def on_score(self, question: ScorePrompt) -> Message:
        """Compute all of a prompt, and say how likely its tokens are. Raises NotScored."""
        answer = self._scoring.expected(question.session)
        if answer is None:
            self.refuse_when_draining()
            sequence = sequence_of(task_of(question, self.member), self.root, self.config.caching)
            sequence.scores = Scores(sequence.prompt, question.alternatives)
            self._enqueue(sequence)
            answer = self._scoring.expect(question.session)
            self._admit()
        return await asyncio.shield(answer)

    def _running(self, session: str) -> Sequence | None:
        return self.engine.sequences.get(session) if self.engine.wanted(session) else None

    def _admit(self) -> None:
        """Give waiting prompts, in order, the room there is; who needs what another computes just now waits for it."""
        for sequence in list(self._waiting.values()):
            if self.engine.tables.comes(sequence):
                continue
            try:
                self.engine.open(sequence, len(sequence.prompt))
            except Full:
                return
            del self._waiting[sequence.id]
            sequence.trace.enters()
            self.spawn(self.start_joining(sequence))

    def worth_loading(self, sequence: Sequence, refs: list[BlockRef]) -> bool:
        tokens = sum(ref.tokens for ref in refs)
        return self.costs.worth_loading(len(refs), tokens, sequence.kept * BLOCK_TOKENS)

    async def _between(self) -> None:
        """A tenant that has had less than those whose step runs does not wait for the end of that step."""
        while True:
            await self._came.wait()
            self._came.clear()
            while (step := await self.step(self.engine.step_between)) is not None:
                await self.account(step)

    def joined(self, sequence: Sequence) -> None:
        self._came.set()
        if sequence.kept:
            self._begin_store(sequence, self._assure(sequence))

    async def _assure(self, sequence: Sequence) -> None:
        """What is kept here may have left MemPool meanwhile, and whoever decodes looks for it there."""
        with self.engine.tables.holding(sequence):
            missing = await self.pool.missing(sequence.full_refs(sequence.kept * BLOCK_TOKENS))
            await self.pool.store(await self.engine.export(sequence, missing))

    def _begin_store(self, sequence: Sequence, store: Coroutine[Any, Any, None]) -> None:
        with within(sequence.trace.context):
            task = self.spawn(store)
        if self.engine.wanted(sequence.id):  # or nobody will ask for it
            self._stores[sequence.id].append(task)

    async def fail(self, sequence: Sequence, code: str, reason: str) -> None:
        self._stores.pop(sequence.id, None)
        if sequence.scores is None:
            await super().fail(sequence, code, reason)
        else:
            sequence.trace.fails(reason)
            self.engine.close(sequence.id)
            self._scoring.fail(sequence.id, code, reason)
        self._admit()

    async def after(self, step: Step) -> None:
        if step.tokens and not self._scoring.busy:  # what scores cost, other prompts do not
            self.costs.took(step.tokens, step.pairs, step.seconds)
        for sequence, blocks in step.filled:
            self._begin_store(sequence, self.pool.store(blocks))
        for sequence, stored in step.leaving:
            self._begin_store(sequence, stored())
        for sequence, event in step.said:
            if not self.engine.wanted(sequence.id):
                continue
            if sequence.scores is None:
                await self.say(event)
            tail = await self.engine.tail(sequence)
            if sequence.scores is not None:
                self._scored(sequence, tail)
                continue
            self.past.remember(sequence)
            sequence.trace.stores()
            self.engine.close(sequence.id)
            self._finishing[sequence.id] = sequence
            self.spawn(self._finish(sequence, event, tail))
        self._admit()

    def _scored(self, sequence: Sequence, tail: list[BlockData]) -> None:
        """What was computed for it may serve others."""
        self.engine.close(sequence.id)
        self._stores.pop(sequence.id, None)
        self.spawn(self.pool.store(tail))
        self._scoring.scored(sequence)

    async def _finish(self, sequence: Sequence, event: TokenEvent, tail: list[BlockData]) -> None:
        """Wait until MemPool has the whole prompt, then say so."""
        with sequence.trace.storing():
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
            waiting.trace.leaves(0)
        await super().on_cancel(message)
        self._scoring.fail(message.session, "cancelled", "nobody wants it any more")
        if not self.engine.wanted(message.session):
            self._stores.pop(message.session, None)
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
