"""The hop: a layer's rows to the expert shards and back.

One ExpertCall a shard and layer, carrying the rows that the shard serves. Because an expert call is a pure
function, a call that fails is simply made again elsewhere. It runs on the computing thread and speaks over a line;
between `begin` and `finish` of one exchange, the thread may compute or begin others. Knows nothing of torch: rows
are numpy arrays of the model's bits. What is done for every layer touches little, because between two layers the
weights that were read have driven everything else out of the caches.
Source: xDeepServe (2508.02520), attention-to-expert and expert-to-attention exchange.
"""

from __future__ import annotations

import math
import queue
import time

import numpy as np
import structlog

from xpod.attention.exchange import Array, Call, Exchange
from xpod.attention.hop_trace import HopTrace
from xpod.attention.measured import Measured
from xpod.common.experts import ExpertDirectory
from xpod_policy.hedging import Latencies
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
CUT_OFF_SECONDS, CUT_OFF_PATIENCE = 1.0, 0.25
"""For so long after our own connection was lost, shards may be cut off, too: a call is hedged after so long."""
PATIENCE_GROWS = 4
"""With each attempt that nobody answers, so that a machine that is only slow is not given ever more to do."""
ALONE_SECONDS = 1.0
"""A shard that alone serves some expert is asked again after this at the earliest."""
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
        self._calls: dict[int, Call] = {}
        self._lost: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._closed = False
        self._latencies = Latencies()
        self._hedging, self._measured = hedging, measured
        self.trace = trace or HopTrace(Tracer())
        self._hedge_at = math.inf
        """No call is to be hedged before."""
        self._cut_off_at = -math.inf
        self._slow: set[str] = set()
        """Shards that let a hedge win and have not answered since: others are asked where others can."""
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
        exchange = Exchange(layer, rows, experts, out)
        if (span := self.trace.begin(layer, len(rows))) is not None:
            exchange.span, exchange.trace = span, span.context.header
        if not self._lost.empty():  # before asking: who is lost now may be back, and be asked
            self._see_who_is_lost()
        self._ask(exchange, experts)
        return exchange

    def finish(self, exchange: Exchange) -> Array:
        """The outputs `[T, K, D]`, once they are there. Raises ExpertsUnavailable, BusClosed."""
        calls = self._calls
        while exchange.calls or exchange.homeless is not None:
            if self._closed:
                raise BusClosed("the worker is leaving")
            now = time.monotonic()
            until = math.inf
            if calls:  # all deadlines are equally long, so the oldest call has the first
                until = next(iter(calls.values())).deadline
                if until <= now:
                    self._expire(now)
                if self._hedge_at <= now:
                    self._hedge(now)
                until = min(until, self._hedge_at)
            if exchange.homeless is not None:
                self._ask_again(exchange, now)
                until = min(until, exchange.retry_at)
            if exchange.calls or exchange.homeless is not None:
                self._take(until - now)
        if exchange.span is not None:
            self.trace.end(exchange.span)
        return exchange.out.reshape(*exchange.experts.shape, -1)

    def abandon(self) -> None:
        """Forget whatever is under way; late answers are for nobody."""
        for ticket in self._calls:
            self._line.forget(ticket)
        self._calls.clear()
        self._slow.clear()  # their late answers are for nobody, too

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
        exchange.version = self._directory.version
        parts, nobody = self._split(exchange.layer, wanted, exchange.avoid)
        self._post_all(exchange, parts, most, tries)
        if nobody is not None:
            self._put_off(exchange, np.where(nobody, wanted, -1), RETRY_EVERY)

    def _put_off(self, exchange: Exchange, wanted: Array, seconds: float) -> None:
        """Ask for these pairs later: now nobody can be asked."""
        now, before = time.monotonic(), exchange.homeless
        exchange.homeless = wanted if before is None else np.maximum(before, wanted)
        exchange.retry_at = now + seconds
        exchange.give_up = min(exchange.give_up, now + self._patience)

    def _split(
        self, layer: int, wanted: Array, avoid: frozenset[str]
    ) -> tuple[list[ShardRows], Array | None]:
        """Who serves what; slow shards only what nobody else does."""
        split = self._directory.routing.split
        if not self._slow:
            return split(layer, wanted, avoid)
        parts, left = split(layer, wanted, avoid | self._slow)
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

    def _hedge(self, now: float) -> None:
        """Ask again for what takes too long, others where there are any."""
        due = [(ticket, call) for ticket, call in self._calls.items() if call.hedge_at <= now]
        for ticket, call in due:
            exchange, waited = call.exchange, now - call.posted
            self._directory.doubt(call.part.shard)
            if call.hedges:  # their answers, or what was asked, may have been lost with a server
                self._ask_anew(call)
                continue
            call.hedge_at = now + PATIENCE_GROWS * waited
            avoid = exchange.avoid | {call.part.shard}
            parts, nobody = self._split(exchange.layer, call.pairs(), avoid)
            if nobody is not None:  # it alone serves these: what it was asked, or its answer, may be lost
                if waited >= ALONE_SECONDS:
                    self._ask_anew(call)
                else:
                    call.hedge_at = min(call.hedge_at, call.posted + ALONE_SECONDS)
                continue
            call.hedges.update(self._post_all(exchange, parts))
            for hedge in call.hedges:
                self._calls[hedge].hedged, self._calls[hedge].hedge_at = ticket, math.inf
            self.hedges += 1
            self.trace.fault(names.HEDGE, call.part.shard, exchange.layer, call.posted, "late")
        self._hedge_at = min((call.hedge_at for call in self._calls.values()), default=math.inf)

    def _ask_anew(self, call: Call) -> None:
        """Neither the call nor its hedges were answered in all that time: whoever serves its pairs is asked again."""
        for hedge in call.hedges:
            self._outdo(self._calls[hedge])
        call.hedges.clear()
        self._outdo(call)
        self.retries += 1
        self.trace.fault(names.REDISPATCH, call.part.shard, call.exchange.layer, call.posted, "no answer")
        self._ask(call.exchange, call.pairs(), tries=call.tries + 1)

    def _ask_again(self, exchange: Exchange, now: float) -> None:
        """Pairs that nobody served: is there somebody by now?"""
        homeless = exchange.homeless
        assert homeless is not None
        if exchange.version == self._directory.version and now < exchange.retry_at:
            return
        if now >= exchange.give_up:
            raise ExpertsUnavailable(
                f"nobody serves expert {homeless[homeless >= 0][0]} of layer {exchange.layer}"
            )
        exchange.avoid, exchange.homeless = frozenset(), None
        self._ask(exchange, homeless)

    def _post(self, exchange: Exchange, part: ShardRows, whole: Tensor, now: float, tries: int) -> int:
        rows = whole if part.rows is None else Tensor.of(exchange.rows[part.rows], self._dtype)
        call = _expert_call(exchange.layer, rows, _numbers(part.row_of), _numbers(part.expert_of))
        ticket = self._line.post(self._subject(part.shard), call, exchange.trace)
        hedge_at = now + self._call_timeout
        if self._hedging:
            patience = self._latencies.patience(part.place.size)
            if now - self._cut_off_at < CUT_OFF_SECONDS:
                patience = min(patience, CUT_OFF_PATIENCE)
            patience *= PATIENCE_GROWS**tries
            if not self._directory.routing.spare(exchange.layer):
                patience = max(ALONE_SECONDS, PATIENCE_GROWS * patience)
            hedge_at = now + patience
            self._hedge_at = min(self._hedge_at, hedge_at)
        self._calls[ticket] = Call(exchange, part, now, now + self._call_timeout, hedge_at, tries)
        exchange.calls += 1
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
        if isinstance(arrival, Answer) and (call := self._calls.pop(arrival.ticket, None)) is not None:
            self._arrived(arrival.ticket, call, arrival.message)

    def _arrived(self, ticket: int, call: Call, reply: Message | XpodError) -> None:
        exchange, part = call.exchange, call.part
        if call.late:
            self._slow.discard(part.shard)
            return
        exchange.calls -= 1
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
            took = time.monotonic() - call.posted
            self._latencies.took(part.place.size, took)
            if self._measured is not None:
                self._measured.call(part.place.size, took, reply.queued_us, reply.computed_us)
            if call.hedges or call.hedged:
                self._settle(ticket, call)

    def _settle(self, ticket: int, call: Call) -> None:
        """Of a call and its hedges, those whose pairs are all there now are late."""
        for hedge in call.hedges:
            self._outdo(self._calls[hedge])
        first = self._calls.get(call.hedged)
        if first is not None:
            first.hedges.discard(ticket)
            if not first.hedges:
                self._slow.add(first.part.shard)
                self._outdo(first)

    def _outdo(self, call: Call) -> None:
        """Its answer is not needed any more."""
        call.late, call.hedge_at = True, math.inf
        call.exchange.calls -= 1

    def _failed(self, call: Call, error: XpodError | None) -> None:
        """The shard did not do its part: ask the others, unless they have been asked already."""
        exchange, part = call.exchange, call.part
        if error is not None:
            log.warning(
                "expert call failed",
                shard=part.shard,
                layer=exchange.layer,
                code=error.code,
                error=str(error),
            )
        self.retries += 1
        why = "a reply of the wrong form" if error is None else str(error)
        self.trace.fault(names.REDISPATCH, part.shard, exchange.layer, call.posted, why)
        if isinstance(error, Disconnected):
            self._cut_off_at = time.monotonic()
        if self._covered(call):
            return
        wanted = call.pairs()
        smallest = self._pairs(exchange, BUS_LIMIT)
        if isinstance(error, MessageTooLarge) and len(part.place) > smallest:
            self._ask(exchange, wanted, smallest)
        elif isinstance(error, Disconnected):  # we are cut off, and whom we asked is as good as anybody
            self._put_off(exchange, wanted, RECONNECT_SECONDS)
        else:
            exchange.avoid |= {part.shard}
            self._ask(exchange, wanted)

    def _covered(self, call: Call) -> bool:
        """Whether what a failed call was asked for is under way elsewhere."""
        first = self._calls.get(call.hedged)
        if first is not None:  # the call itself goes on, without its hedges
            for hedge in first.hedges & self._calls.keys():
                self._outdo(self._calls[hedge])
            first.hedges.clear()
        for hedge in call.hedges:  # these are calls like others now, and may be lost as well
            self._calls[hedge].hedged, self._calls[hedge].hedge_at = 0, call.hedge_at
        self._hedge_at = min(self._hedge_at, call.hedge_at)
        return first is not None or bool(call.hedges)

    def _expire(self, now: float) -> None:
        late = [ticket for ticket, call in self._calls.items() if call.deadline <= now]
        self._fail(late, DeadlineExceeded(f"no answer in {self._call_timeout:g} s"))

    def _see_who_is_lost(self) -> None:
        while not self._lost.empty():
            shard = self._lost.get()
            self._slow.discard(shard)
            gone = [ticket for ticket, call in self._calls.items() if call.part.shard == shard]
            self._fail(gone, ShardLost(f"{shard} is gone"))

    def _fail(self, tickets: list[int], error: XpodError) -> None:
        for ticket in tickets:
            self._line.forget(ticket)
            if (call := self._calls.pop(ticket, None)) is not None:
                self._arrived(ticket, call, error)


def _numbers(values: Array) -> Tensor:
    """int32 `[P]`, contiguous, as it is."""
    return made_tensor("i32", values.shape, values.data.cast("B"))
