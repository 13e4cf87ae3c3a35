"""A decode worker: it takes prefilled sequences into its running batch and says a token a step for each.

Deferred transfer, as in xDeepServe (2508.02520): the router's task carries names only; the worker reserves a
slot, answers, and then pulls the blocks itself. Blocks that become full go to MemPool, as checkpoint for
failover and as cache for the next turn (MemServe's PD-Caching-3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Annotated, Any

from pydantic import Field

from xpod.attention.engine import Step
from xpod.attention.sequence import Sequence
from xpod.attention.sequence_trace import SequenceTrace
from xpod.attention.tables import Keeping
from xpod.attention.tasks import sequence_of
from xpod.attention.worker import Worker, WorkerConfig
from xpod.decode.recomputed import Recomputed
from xpod_proto import Ack, BlockData, DecodeTask, Message, TokenEvent
from xpod_proto.messages import Value
from xpod_proto.rights import WATCHES
from xpod_runtime import span_names as names
from xpod_runtime.bus import Bus
from xpod_runtime.cores import cores
from xpod_runtime.handlers import handles

STORE_BACKLOG = 1024
LISTEN_SECONDS = 0.3
"""So long a worker that leaves hears who leaves, too, before it hands its sequences over."""


class DecodeConfig(WorkerConfig):
    """While a decode worker computes, its shards wait for it, and their core can help."""

    kind = "decode"
    kernel_threads: Annotated[
        int, Field(ge=0, description="threads that share our kernels' work, 0: compute threads")
    ] = min(2, cores())
    checkpoints: Annotated[bool, Field(description="give filled blocks to MemPool")] = True


class Decode(Worker):
    """Continuous batching: sequences join and leave between steps."""

    kind = "decode"
    watches = WATCHES["decode"]
    config: DecodeConfig

    @property
    def exports(self) -> bool:
        return self.config.checkpoints

    def __init__(self, config: DecodeConfig, data: Bus, control: Bus) -> None:
        super().__init__(config, data, control)
        self._to_store: asyncio.Queue[BlockData] = asyncio.Queue(STORE_BACKLOG)
        self._recomputed = Recomputed()

    def keeping(self, most: int) -> Keeping:
        return Keeping(most if self.config.caching.decode_keeps else 0)

    async def setup(self) -> None:
        await super().setup()
        self.permanent("store", self._store)

    @handles(DecodeTask)
    async def on_task(self, task: DecodeTask) -> Message:
        """Take a slot; the same session under a newer epoch is the same work for another router's ears."""
        self.refuse_when_draining()
        known = self.engine.sequences.get(task.session)
        if known is not None and self.engine.wanted(task.session):
            known.epoch, known.router = max(known.epoch, task.epoch), task.router
            return Ack("already running")
        past = self.past.find(task.session)
        if past is not None and past.answers(task.epoch, len(task.generated.token_ids())):
            self.spawn(self.say(past.events[-1]))  # whoever missed more of it will ask
            return Ack("already through")
        sequence = sequence_of(task, self.root, self.config.caching)
        self.engine.open(sequence, len(sequence.prompt) + task.sampling.max_tokens)
        sequence.trace = SequenceTrace(
            self.tracer, names.DECODE, session=task.session, epoch=task.epoch, known=sequence.known
        )
        self.spawn(self.start_joining(sequence))
        return Ack()

    def joined(self, sequence: Sequence) -> None:
        self._recomputed.handed_over(len(sequence.generated), sequence.known, sequence.loaded)

    def load(self) -> dict[str, Value]:
        return {**super().load(), **self._recomputed.load()}

    async def after(self, step: Step) -> Coroutine[Any, Any, None]:
        crowded = self.engine.batch.crowded
        said = [(sequence, event) for sequence, event in step.said if self.engine.wanted(sequence.id)]
        for sequence, event in said:
            if event.finish:
                self.past.remember(sequence)
                self.engine.close(sequence.id)
        for block in (block for _, blocks in step.filled for block in blocks):
            if (
                not self._to_store.full()
            ):  # soft state: under pressure a checkpoint is skipped, not waited for
                self._to_store.put_nowait(block)
        events = [event for _, event in said]
        return self._tell_routers(events, crowded and any(event.finish for event in events))

    async def _tell_routers(self, events: list[TokenEvent], room: bool) -> None:
        """The step's tokens; with `room`, routers that hold sessions back for want of it hear of it, too."""
        await self.say_all(events)
        if room:
            await self.beat()

    async def _store(self) -> None:
        while True:
            blocks = [await self._to_store.get()]
            while not self._to_store.empty():
                blocks.append(self._to_store.get_nowait())
            await self.pool.store(blocks)

    async def drain(self) -> None:
        """Hand the sequences over to a worker that stays; where all leave, let them finish if they can in time."""
        try:
            self.see_if_idle()
            with suppress(TimeoutError):
                async with asyncio.timeout(LISTEN_SECONDS):
                    await self.idle.wait()
            if all(other.name == self.member for other in self.view.usable("decode")):
                await self.idle.wait()
        finally:
            for sequence in list(self.engine.sequences.values()):
                await self.fail(sequence, "draining", f"{self.member} is leaving")
