"""What a prefill and a decode process have in common: half of a model, a KV cache, an engine, and its way around.

Subclasses say what becomes of a sequence that has sampled a token.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field

from xpod.attention.costs import Costs
from xpod.attention.departure import Sink
from xpod.attention.engine import Engine, Step
from xpod.attention.hop import Hop
from xpod.attention.measured import Measured
from xpod.attention.past import Past, Said
from xpod.attention.pool import PoolClient
from xpod.attention.sequence import Sequence
from xpod.attention.sorting import few_of, quickest_sort
from xpod.attention.step_traces import StepTraces
from xpod.attention.tables import Keeping
from xpod.common.service import Service
from xpod_model.attention_half import AttentionHalf
from xpod_model.checkpoint import Checkpoint
from xpod_model.errors import GrammarError
from xpod_model.fingerprint import numerics_fingerprint
from xpod_model.guide import Grammars
from xpod_model.kernels.team import set_kernel_threads
from xpod_model.kv import KVCache
from xpod_model.memory import bound_kernels, give_back_memory, keep_freed_memory, long_lived
from xpod_policy.batch import Batch
from xpod_policy.blocks import BLOCK_TOKENS, BlockRef, namespace
from xpod_policy.caching import Caching
from xpod_proto import (
    CancelSession,
    Message,
    ReplayTokens,
    RunningSessions,
    SessionFailed,
    TokenEvent,
    TokenHistory,
    subjects,
)
from xpod_proto.messages import Value
from xpod_proto.rights import WATCHES
from xpod_runtime.bus import Bus
from xpod_runtime.compute import ComputeThread
from xpod_runtime.config import ServiceConfig
from xpod_runtime.errors import XpodError
from xpod_runtime.handlers import handles
from xpod_runtime.logs import bind

BAD_GRAMMAR = "bad_grammar"
RESTS_AFTER = 2
"""Looks of an idle thread that find nothing new before memory is given back."""
BEATS_PER_LIST = 2
"""Heartbeats from one list of running sessions to the next."""


class WorkerConfig(ServiceConfig):
    """What prefill and decode are told besides."""

    max_num_seqs: Annotated[int, Field(ge=1, description="sequences in one batch")] = 64
    max_num_batched_tokens: Annotated[int, Field(ge=1, description="tokens in one step")] = 512
    micro_batches: Annotated[int, Field(ge=1, le=2, description="forward passes a step may be cut into")] = 1
    micro_batch_tokens: Annotated[int, Field(ge=1, description="fewest tokens of a micro-batch")] = 1
    kernel_threads: Annotated[
        int, Field(ge=0, description="threads that share our kernels' work, 0: compute threads")
    ] = 0
    hedging: Annotated[bool, Field(description="ask late expert calls of other holders, too")] = True
    few_tokens: Annotated[
        int,
        Field(ge=-1, description="batches up to so many tokens ask as few shards as can serve, -1: by size"),
    ] = -1
    kv_bytes: Annotated[int, Field(ge=1, description="bytes for the KV cache")] = 1 << 30
    caching: Annotated[Caching, Field(description="whose blocks later requests may find")] = Caching.FULL
    keep_bytes: Annotated[
        int, Field(ge=0, description="of the KV cache, bytes that may hold blocks of past requests")
    ] = 256 << 20


class Worker(Service):
    """Loads its half of the model in `setup` and steps its engine for ever."""

    watches: ClassVar[tuple[str, ...]] = WATCHES["prefill"]
    config: WorkerConfig

    def __init__(self, config: WorkerConfig, data: Bus, control: Bus) -> None:
        super().__init__(config, data, control)
        self.compute = ComputeThread()
        self.measured = Measured(self.registry)
        self.wake = asyncio.Event()
        self.idle = asyncio.Event()
        self._model = ""
        self._busy_before = 0.0
        self._idle_for = 0
        self.past = Past()
        self._tasks: set[asyncio.Task[None]] = set()
        self._telling: Coroutine[Any, Any, None] | None = None

    async def setup(self) -> None:
        config = self.config
        checkpoint = Checkpoint.open(Path(config.model))
        half = await self.compute.run(self._load_half, checkpoint)
        dtype = half.kv_spec().dtype
        self.fingerprint = await self.compute.run(numerics_fingerprint, dtype)
        self.experts = directory = await self.follow_experts(
            half.config.experts,
            half.config.moe_layers,
            quickest_sort(),
            few_of(half.config, dtype) if config.few_tokens < 0 else config.few_tokens,
        )
        await self.open_view(model=self._model, fingerprint=self.fingerprint)
        self.line = self.open_line()
        traces = StepTraces(self.tracer, config.trace_steps, chunks=self.kind == "prefill")
        self.hop = Hop(
            self.line,
            self.pod,
            directory,
            dtype,
            self.compute,
            hedging=config.hedging,
            measured=self.measured,
            trace=traces.hops,
        )
        self.compute.nudge = self.line.interrupt
        spec = half.kv_spec()
        blocks = max(1, config.kv_bytes // spec.bytes_per_block)
        self.cache = KVCache(spec, blocks, config.device)
        self._grammars = Grammars(Path(config.model), half.config.vocab, half.config.eos_token_ids)
        self.compute.idle = self._idle
        self.root = namespace(self._model, dtype, self.fingerprint)
        self.pool = PoolClient(
            self._ask_pool, lambda: [m.name for m in self.view.usable("mempool")], near=self._is_near
        )
        self.costs = Costs(config.max_num_batched_tokens)
        self.engine = Engine(
            half,
            self.cache,
            Batch(config.max_num_seqs, config.max_num_batched_tokens, blocks),
            self.hop,
            self.compute,
            eos=half.config.eos_token_ids,
            micro_batches=config.micro_batches,
            micro_batch_tokens=config.micro_batch_tokens,
            exports=self.exports,
            sink=self.sink(),
            keeping=self.keeping(config.keep_bytes // spec.bytes_per_block),
            traces=traces,
        )
        self.permanent("steps", self._steps)
        self.permanent("running", self._say_running)
        self.data.on_reconnect(self.say_last_again)

    @property
    def exports(self) -> bool:
        """Are filled blocks wanted?"""
        return True

    def sink(self) -> Sink | None:
        """Who takes blocks layer by layer, while the step that fills them goes on."""
        return None

    @abstractmethod
    def keeping(self, most: int) -> Keeping:
        """What is kept of sequences that left, `most` blocks or none."""

    async def _ask_pool(self, node: str, message: Message, timeout: float) -> Message:
        return await self.view.request(self.data, "mempool", node, message, timeout=timeout)

    def _is_near(self, node: str) -> bool:
        """Is it on this host?"""
        member = self.view.table.members.get(node)
        return member is not None and member.host == socket.gethostname()

    def _load_half(self, checkpoint: Checkpoint) -> AttentionHalf:
        keep_freed_memory()
        bound_kernels()
        torch.set_num_threads(self.config.threads)
        set_kernel_threads(self.config.kernel_threads)
        with long_lived():
            half = AttentionHalf.load(checkpoint, self.config.dtype, self.config.device)
        self._model = checkpoint.identity
        checkpoint.release()
        give_back_memory()
        return half

    def _idle(self) -> None:
        """Now and then, on the computing thread, while there is nothing to do."""
        self.line.tend()
        self._idle_for = 0 if self.compute.busy_seconds != self._busy_before else self._idle_for + 1
        self._busy_before = self.compute.busy_seconds
        if self._idle_for == RESTS_AFTER:
            self.cache.rest()
            gc.collect()
            give_back_memory()

    async def teardown(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._telling is not None:
            self._telling.close()
        if hasattr(self, "pool"):
            self.pool.close()
        if hasattr(self, "hop"):
            self.hop.close()
        await self.compute.close()
        if hasattr(self, "line"):
            self.line.close()

    def detail(self) -> dict[str, Value]:
        return {
            "model": self._model,
            "dtype": self.config.dtype,
            "device": self.config.device,
            "namespace": self.root.hex() if hasattr(self, "root") else "",
            "step_tokens": self.config.max_num_batched_tokens,
        }

    def load(self) -> dict[str, Value]:
        if not hasattr(self, "engine"):
            return {}
        batch = self.engine.batch
        return {
            "sequences": batch.reserved_sequences,
            "slots_free": batch.max_sequences - batch.reserved_sequences,
            "blocks_free": batch.total_blocks - batch.reserved_blocks,
            "blocks_reserved": batch.reserved_blocks,
            "blocks_kept": self.engine.tables.kept,
            "busy_seconds": round(self.compute.busy_seconds, 3),
            "calls": self.hop.calls,
            "hedges": self.hop.hedges,
        }

    # the batch

    async def _steps(self) -> None:
        """Step for as long as there is something to do, then wait for it."""
        number = 0
        while True:
            self.wake.clear()
            with bind(step=number):
                step = await self._step_and_tell()
            number += step is not None
            if step is None:
                self.see_if_idle()
                await self.wake.wait()
            else:
                self._telling = await self.account(step)

    async def account(self, step: Step) -> Coroutine[Any, Any, None] | None:
        """See who leaves, and return what may be said while the next step runs."""
        self.measured.step(step.seconds, step.tokens)
        for sequence in step.stuck:
            await self.fail(sequence, BAD_GRAMMAR, sequence.trouble)
        return await self.after(step)

    async def _step_and_tell(self) -> Step | None:
        """The next step, and beside it what the last one left to say."""
        telling = self._telling
        if telling is None:
            return await self.step(self.engine.step)
        stepping = asyncio.create_task(self.step(self.engine.step))
        try:
            await asyncio.sleep(0)  # the step is on its way before anything is said
            await telling
            self._telling = None  # a drain need not wait for the step
            return await stepping
        finally:
            self._telling = None
            telling.close()  # if it was never begun
            stepping.cancel()

    def working(self) -> bool:
        """Is there a session here that must not be left alone?"""
        return bool(self.engine.sequences) or self._telling is not None

    def see_if_idle(self) -> None:
        """Let a drain go on once nothing is left to do."""
        if self.working():
            self.idle.clear()
        else:
            self.idle.set()

    async def step(self, run: Callable[[], Awaitable[Step | None]]) -> Step | None:
        """What the engine does; where it cannot, whatever runs has failed."""
        try:
            return await run()
        except XpodError as error:
            await self._fail_running(error.code, str(error))
        except Exception as error:
            self.log.exception("step failed")
            await self._fail_running("internal", f"{type(error).__name__}: {error}")
        return Step([], [])

    async def _fail_running(self, code: str, reason: str) -> None:
        for id in self.engine.batch.running_ids:
            await self.fail(self.engine.sequences[id], code, reason)

    @abstractmethod
    async def after(self, step: Step) -> Coroutine[Any, Any, None] | None:
        """Of `account`, what is left to do for a kind of worker."""

    async def say(self, event: TokenEvent) -> None:
        """Publish a token to whoever follows the session."""
        await self.data.publish(subjects.tokens(self.pod, event.session), event)

    async def fail(self, sequence: Sequence, code: str, reason: str) -> None:
        """Give a session up, and tell its router why."""
        self.log.error("session failed", session=sequence.id, epoch=sequence.epoch, code=code, reason=reason)
        sequence.trace.fails(reason)
        self.engine.close(sequence.id)
        failed = SessionFailed(sequence.id, sequence.epoch, self.member, code, reason)
        await self.data.publish(subjects.mailbox(self.pod, "router", sequence.router), failed)

    async def start_joining(self, sequence: Sequence) -> None:
        """Load what MemPool has of a sequence and let it run."""
        try:
            if sequence.spec.grammar:
                sequence.guide = await asyncio.to_thread(
                    self._grammars.guide, sequence.spec.grammar, sequence.generated
                )
            candidates = [ref for ref in sequence.loadable() if ref.start >= sequence.kept * BLOCK_TOKENS]
            if not self.worth_loading(sequence, candidates):
                candidates = []
            began = time.monotonic()
            found = await sequence.trace.transfer(len(candidates), self.pool.load(candidates))
            self.costs.loaded(len(found), time.monotonic() - began)
            if await self.engine.join(sequence, candidates, found):
                self.joined(sequence)
        except GrammarError as error:
            await self.fail(sequence, BAD_GRAMMAR, str(error))
        except Exception as error:
            self.log.exception("session could not start", session=sequence.id)
            await self.fail(sequence, "internal", f"{type(error).__name__}: {error}")
        self.wake.set()

    def worth_loading(self, sequence: Sequence, refs: list[BlockRef]) -> bool:
        """Is it quicker to ask MemPool for these than to compute them?"""
        return True

    def joined(self, sequence: Sequence) -> None:
        """The sequence takes part from the next step on; it has computed nothing yet."""

    def say_last_again(self) -> None:
        """What was said into a dying connection is lost: from each last token, routers see what they miss."""
        live = [sequence.events[-1] for sequence in self.engine.sequences.values() if sequence.events]
        self.spawn(self.say_all([*live, *self.past.last_words()]))

    async def say_all(self, events: list[TokenEvent]) -> None:
        """`say` each of them."""
        for event in events:
            await self.say(event)

    async def _say_running(self) -> None:
        """Now and then: a router that has its session elsewhere by now, or ended, says so."""
        while True:
            await asyncio.sleep(BEATS_PER_LIST * self.config.heartbeat)
            running = tuple((each.id, each.epoch, each.router) for each in self.engine.sequences.values())
            if running:
                await self.data.publish(
                    subjects.running(self.pod), RunningSessions(self.member, self.kind, running)
                )

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine beside the steps, until it ends or the worker does."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # messages of both kinds

    @handles(CancelSession)
    async def on_cancel(self, message: CancelSession) -> None:
        sequence = self.engine.sequences.get(message.session)
        if sequence is not None and sequence.epoch <= message.epoch:
            self.engine.close(message.session)
            self.wake.set()

    @handles(ReplayTokens)
    async def on_replay(self, message: ReplayTokens) -> Message:
        sequence = self.engine.sequences.get(message.session)
        said = self.past.find(message.session) if sequence is None else Said.of(sequence)
        if said is None:
            return TokenHistory(message.session, False, ())
        missed = tuple(event for event in said.events if event.index >= message.start)
        epoch = sequence.epoch if sequence else -1
        return TokenHistory(message.session, True, missed, said.tokens, epoch)
