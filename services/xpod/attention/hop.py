"""The hop: a layer's rows to the expert shards and back.

One ExpertCall a shard and layer, carrying the rows that the shard serves. Because an expert call is a pure
function, a call that fails is simply made again elsewhere. It runs on the computing thread and speaks over a line;
between `begin` and `finish` of one exchange, the thread may compute or begin others. Knows nothing of torch: rows
are numpy arrays of the model's bits. What is done for every layer touches little, because between two layers the
weights that were read have driven everything else out of the caches. What becomes of calls that are late or fail is
decided in `xpod_policy.expert_calls`.
Source: xDeepServe (2508.02520), attention-to-expert and expert-to-attention exchange.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Collection

import numpy as np
import structlog

from xpod.attention.exchange import Exchange
from xpod.attention.hop_trace import HopTrace
from xpod.attention.measured import Measured
from xpod.common.experts import ExpertDirectory
from xpod_policy.expert_calls import Array, Call, CallBook, Cause, Next
from xpod_policy.holdings import MANY, ShardRows
from xpod_proto import ExpertCall, ExpertReply, Message, Tensor, subjects
from xpod_proto.registry import maker_of
from xpod_proto.tensor import made_tensor
from xpod_runtime import span_names as names
from xpod_runtime.compute import ComputeThread
from xpod_runtime.errors import BusClosed, DeadlineExceeded, Disconnected, MessageTooLarge, XpodError
from xpod_runtime.line import BUS_LIMIT, Answer, Line
from xpod_runtime.tracing import Tracer

log = structlog.get_logger(__name__)
RETRY_EVERY = 0.25
RECONNECT_SECONDS = 0.05
"""From the loss of our own connection to the first question over another."""
ENVELOPE = 4096
"""Bytes of a message that are not rows, and more."""


class ExpertsUnavailable(XpodError):
    """Nobody holds some expert, and nobody came to hold it in time."""

    code = "experts_unavailable"


class ShardLost(XpodError):
    """The shard's process is gone; whatever it was asked has to be asked elsewhere."""

    code = "shard_lost"


_expert_call = maker_of(ExpertCall)


class Hop:
    """The attention side. `call_timeout` bounds one call, `patience` the wait for a missing expert (seconds)."""

    def __init__(
        self,
        line: Line,
        pod: str,
        directory: ExpertDirectory,
        dtype: str,
        compute: ComputeThread,
        *,
        call_timeout: float = 10.0,
        patience: float = 30.0,
        hedging: bool = True,
        measured: Measured | None = None,
        trace: HopTrace | None = None,
    ) -> None:
        self._line, self._pod, self._directory, self._dtype = line, pod, directory, dtype
        self._compute, self._call_timeout, self._patience = compute, call_timeout, patience
        self._subjects: dict[str, str] = {}
        self._book = CallBook[Exchange](call_timeout, hedging=hedging)
        self._lost: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._closed = False
        self._measured = measured
        self.trace = trace or HopTrace(Tracer())
        self.calls = 0
        self.retries = 0
        self.hedges = 0
        directory.on_lost(self._give_up)
        directory.listen(line.interrupt)

    def experts(self, layer: int, rows: Array, experts: Array) -> Array:
        """`begin` and `finish` in one."""
        return self.finish(self.begin(layer, rows, experts))

    def begin(self, layer: int, rows: Array, experts: Array) -> Exchange:
        """Ask for the outputs of `rows` `[T, D]` for their chosen `experts` `[T, K]`."""
        out = np.empty((experts.size, rows.shape[1]), rows.dtype)
        exchange = Exchange(layer, experts, rows, out, self.trace.part)
        if (span := self.trace.begin(layer, len(rows))) is not None:
            exchange.span, exchange.trace = span, span.context.header
        if not self._lost.empty():  # before asking: who is lost now may be back, and be asked
            self._see_who_is_lost()
        try:
            self._ask(exchange, experts)
        except BaseException:  # part of it may have been posted
            self.abandon([exchange])
            raise
        return exchange

    def finish(self, exchange: Exchange) -> Array:
        """The outputs `[T, K, D]`, once they are there. Raises ExpertsUnavailable, BusClosed."""
        book, homeless = self._book, exchange.homeless
        while exchange.calls or homeless.wanted is not None:
            if self._closed:
                raise BusClosed("the worker is leaving")
            now = time.monotonic()
            if book.next_at <= now:
                self._see_who_is_late(now)
            until = book.next_at
            if homeless.wanted is not None:
                self._ask_again(exchange, now)
                until = min(until, homeless.retry_at)
            if exchange.calls or homeless.wanted is not None:
                self._take(until - now)
        if exchange.span is not None:
            self.trace.end(exchange.span)
        return exchange.out.reshape(*exchange.experts.shape, -1)

    def abandon(self, exchanges: Collection[Exchange]) -> None:
        """Forget what is under way of these; late answers are for nobody."""
        for ticket in self._book.forget(exchanges):
            self._line.forget(ticket)

    def close(self) -> None:
        """From any thread: whoever waits in `finish` gets BusClosed."""
        self._closed = True
        self._line.interrupt()

    def _give_up(self, shard: str) -> None:
        """From the event loop: nobody will answer the calls that this shard has."""
        self._lost.put(shard)
        self._line.interrupt()

    def _ask(self, exchange: Exchange, wanted: Array, most: int = MANY, tries: int = 0) -> None:
        """Send the pairs of `wanted` `[T, K]` (negative: not wanted) to who serves them, at most `most` a call."""
        exchange.homeless.version = self._directory.version
        parts, nobody = self._split(exchange.layer, wanted, exchange.avoid)
        self._post_all(exchange, parts, most, tries)
        if nobody is not None:
            self._put_off(exchange, np.where(nobody, wanted, -1), RETRY_EVERY)

    def _put_off(self, exchange: Exchange, wanted: Array, seconds: float) -> None:
        """Ask for these pairs later: now nobody can be asked."""
        exchange.homeless.put_off(wanted, time.monotonic(), seconds, self._patience)

    def _split(
        self, layer: int, wanted: Array, avoid: frozenset[str]
    ) -> tuple[list[ShardRows], Array | None]:
        """Who serves what; slow shards only what nobody else does."""
        split, slow = self._directory.routing.split, self._book.slow
        if not slow:
            return split(layer, wanted, avoid)
        parts, left = split(layer, wanted, avoid | slow)
        if left is None:
            return parts, None
        more, nobody = split(layer, np.where(left, wanted, -1), avoid)
        return [*parts, *more], nobody

    def _post_all(
        self, exchange: Exchange, parts: list[ShardRows], most: int = MANY, tries: int = 0
    ) -> list[int]:
        """Send calls of at most `most` pairs; their tickets."""
        sure = min(most, self._pairs(exchange, BUS_LIMIT))
        now = time.monotonic()
        whole = Tensor.of(exchange.rows, self._dtype)
        tickets = []
        for part in parts:
            if part.place.size <= sure:
                tickets.append(self._post(exchange, part, whole, now, tries))
                continue
            fit = self._pairs(exchange, self._line.limit(self._subject(part.shard)))
            for piece in part.cut(min(most, fit), exchange.experts):
                tickets.append(self._post(exchange, piece, whole, now, tries))
        self._line.flush()
        return tickets

    def _see_who_is_late(self, now: float) -> None:
        """Ask again for what takes too long, others where there are any."""
        book = self._book
        self._fail(book.expired(now), DeadlineExceeded(f"no answer in {self._call_timeout:g} s"))
        for ticket, call in book.due(now):
            exchange, shard = call.question, call.part.shard
            self._directory.doubt(shard)
            parts, nobody = self._split(exchange.layer, call.pairs(), exchange.avoid | {shard})
            match book.late(call, now, others=nobody is None):
                case Next.HEDGE:
                    book.hedged(ticket, call, self._post_all(exchange, parts))
                    self.hedges += 1
                    exchange.part.fault(names.HEDGE, shard, exchange.layer, call.posted, "late")
                case Next.ANEW:
                    self.retries += 1
                    exchange.part.fault(names.REDISPATCH, shard, exchange.layer, call.posted, "no answer")
                    self._ask(exchange, call.pairs(), tries=call.tries + 1)

    def _ask_again(self, exchange: Exchange, now: float) -> None:
        """Pairs that nobody served: is there somebody by now?"""
        wanted = exchange.homeless.take(now, self._directory.version)
        if wanted is None:
            return
        if now >= exchange.homeless.give_up:
            raise ExpertsUnavailable(
                f"nobody serves expert {wanted[wanted >= 0][0]} of layer {exchange.layer}"
            )
        exchange.avoid = frozenset()
        self._ask(exchange, wanted)

    def _post(self, exchange: Exchange, part: ShardRows, whole: Tensor, now: float, tries: int) -> int:
        rows = whole if part.rows is None else Tensor.of(exchange.rows[part.rows], self._dtype)
        call = _expert_call(exchange.layer, rows, _numbers(part.row_of), _numbers(part.expert_of))
        ticket = self._line.post(self._subject(part.shard), call, exchange.trace)
        spare = self._directory.routing.spare(exchange.layer)
        self._book.posted(ticket, exchange, part, now, tries, spare=spare)
        self.calls += 1
        return ticket

    def _subject(self, shard: str) -> str:
        subject = self._subjects.get(shard)
        if subject is None:
            subject = self._subjects[shard] = subjects.calls(self._pod, shard)
        return subject

    def _pairs(self, exchange: Exchange, limit: int) -> int:
        """Pairs whose rows fit into a message of `limit` bytes."""
        row_bytes = int(exchange.rows.shape[1]) * exchange.rows.itemsize + 8
        return max(1, (limit - ENVELOPE) // row_bytes)

    def _take(self, seconds: float) -> None:
        """Wait for something to happen, and take it in."""
        with self._compute.resting():
            arrival = self._line.take(max(0.0, seconds))
        self._compute.breathe()
        if not self._lost.empty():
            self._see_who_is_lost()
        if isinstance(arrival, Answer):
            self._arrived(arrival.ticket, arrival.message)

    def _arrived(self, ticket: int, reply: Message | XpodError) -> None:
        call = self._book.arrived(ticket)
        if call is None:
            return
        exchange, part = call.question, call.part
        expected = (len(part.place), exchange.rows.shape[1])
        if isinstance(reply, XpodError):
            self._failed(call, reply)
        elif not isinstance(reply, ExpertReply) or (reply.rows.dtype, reply.rows.shape) != (
            self._dtype,
            expected,
        ):
            log.error("expert reply has the wrong form", shard=part.shard, layer=exchange.layer)
            self._failed(call, None)
        else:
            exchange.out[part.place] = reply.rows.numpy()
            now = time.monotonic()
            self._book.answered(ticket, call, now)
            if self._measured is not None:
                took = now - call.posted
                self._measured.call(part.place.size, took, reply.queued_us, reply.computed_us)

    def _failed(self, call: Call[Exchange], error: XpodError | None) -> None:
        """The shard did not do its part: ask the others, unless they have been asked already."""
        exchange, shard = call.question, call.part.shard
        if error is not None:
            log.warning(
                "expert call failed", shard=shard, layer=exchange.layer, code=error.code, error=str(error)
            )
        self.retries += 1
        why = "a reply of the wrong form" if error is None else str(error)
        exchange.part.fault(names.REDISPATCH, shard, exchange.layer, call.posted, why)
        match self._book.failed(call, self._cause(call, error), time.monotonic()):
            case Next.ELSEWHERE:
                self._ask(exchange, call.pairs())
            case Next.LATER:
                self._put_off(exchange, call.pairs(), RECONNECT_SECONDS)
            case Next.SMALLER:
                self._ask(exchange, call.pairs(), self._pairs(exchange, BUS_LIMIT))

    def _cause(self, call: Call[Exchange], error: XpodError | None) -> Cause:
        if isinstance(error, Disconnected):
            return Cause.CUT_OFF
        if isinstance(error, ShardLost | DeadlineExceeded):
            return Cause.LOST
        divisible = call.part.place.size > self._pairs(call.question, BUS_LIMIT)
        return Cause.TOO_LARGE if isinstance(error, MessageTooLarge) and divisible else Cause.REFUSED

    def _see_who_is_lost(self) -> None:
        while not self._lost.empty():
            shard = self._lost.get()
            self._fail(self._book.lost(shard), ShardLost(f"{shard} is gone"))

    def _fail(self, tickets: list[int], error: XpodError) -> None:
        for ticket in tickets:
            self._line.forget(ticket)
            self._arrived(ticket, error)


def _numbers(values: Array) -> Tensor:
    """int32 `[P]`, contiguous, as it is."""
    return made_tensor("i32", values.shape, values.data.cast("B"))
