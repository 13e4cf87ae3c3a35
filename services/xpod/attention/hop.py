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
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import structlog

from xpod.common.experts import ExpertDirectory
from xpod_policy.holdings import MANY, ShardRows
from xpod_proto import ExpertCall, ExpertReply, Message, Tensor, subjects
from xpod_proto.registry import maker_of
from xpod_proto.tensor import made_tensor
from xpod_runtime.compute import ComputeThread
from xpod_runtime.errors import BusClosed, DeadlineExceeded, MessageTooLarge, XpodError
from xpod_runtime.line import BUS_LIMIT, Answer, Line

log = structlog.get_logger(__name__)
Array = npt.NDArray[Any]
RETRY_EVERY = 0.25
ENVELOPE = 4096
"""Bytes of a message that are not rows, and more."""


class ExpertsUnavailable(XpodError):
    """Nobody holds some expert, and nobody came to hold it in time."""

    code = "experts_unavailable"


class ShardLost(XpodError):
    """The shard's process is gone; whatever it was asked has to be asked elsewhere."""

    code = "shard_lost"


_expert_call = maker_of(ExpertCall)


@dataclass(slots=True, eq=False)
class Exchange:
    """One layer's question under way: `rows` `[T, D]`, `experts` `[T, K]`; `out` `[T * K, D]` fills up."""

    layer: int
    rows: Array
    experts: Array
    out: Array
    calls: int = 0
    avoid: frozenset[str] = frozenset()
    homeless: Array | None = None
    version: int = -1
    retry_at: float = 0.0
    give_up: float = math.inf


class _Call(NamedTuple):
    exchange: Exchange
    part: ShardRows
    deadline: float


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
    ) -> None:
        self._line, self._pod, self._directory, self._dtype = line, pod, directory, dtype
        self._compute, self._call_timeout, self._patience = compute, call_timeout, patience
        self._subjects: dict[str, str] = {}
        self._calls: dict[int, _Call] = {}
        self._lost: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._closed = False
        self.calls = 0
        self.retries = 0
        directory.on_lost(self._give_up)
        directory.listen(line.interrupt)

    def experts(self, layer: int, rows: Array, experts: Array) -> Array:
        """`begin` and `finish` in one."""
        return self.finish(self.begin(layer, rows, experts))

    def begin(self, layer: int, rows: Array, experts: Array) -> Exchange:
        """Ask for the outputs of `rows` `[T, D]` for their chosen `experts` `[T, K]`."""
        out = np.empty((experts.size, rows.shape[1]), rows.dtype)
        exchange = Exchange(layer, rows, experts, out)
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
            if exchange.homeless is not None:
                self._ask_again(exchange, now)
                until = min(until, exchange.retry_at)
            if exchange.calls or exchange.homeless is not None:
                self._take(until - now)
        return exchange.out.reshape(*exchange.experts.shape, -1)

    def abandon(self) -> None:
        """Forget whatever is under way; late answers are for nobody."""
        for ticket in self._calls:
            self._line.forget(ticket)
        self._calls.clear()

    def close(self) -> None:
        """From any thread: whoever waits in `finish` gets BusClosed."""
        self._closed = True
        self._line.interrupt()

    def _give_up(self, shard: str) -> None:
        """From the event loop: nobody will answer the calls that this shard has."""
        self._lost.put(shard)
        self._line.interrupt()

    def _ask(self, exchange: Exchange, wanted: Array, most: int = MANY) -> None:
        """Send the pairs of `wanted` `[T, K]` (negative: not wanted) to who serves them, at most `most` a call."""
        directory = self._directory
        exchange.version = directory.version
        parts, nobody = directory.routing.split(exchange.layer, wanted, exchange.avoid)
        sure = min(most, self._pairs(exchange, BUS_LIMIT))
        deadline = time.monotonic() + self._call_timeout
        whole = Tensor.of(exchange.rows, self._dtype)
        for part in parts:
            if part.place.size <= sure:
                self._post(exchange, part, whole, deadline)
                continue
            fit = self._pairs(exchange, self._line.limit(self._subject(part.shard)))
            for piece in part.cut(min(most, fit), exchange.experts):
                self._post(exchange, piece, whole, deadline)
        self._line.flush()
        if nobody is not None:
            now = time.monotonic()
            missed = np.where(nobody, wanted, -1)
            before = exchange.homeless
            exchange.homeless = missed if before is None else np.maximum(before, missed)
            exchange.retry_at = now + RETRY_EVERY
            exchange.give_up = min(exchange.give_up, now + self._patience)

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

    def _post(self, exchange: Exchange, part: ShardRows, whole: Tensor, deadline: float) -> None:
        rows = whole if part.rows is None else Tensor.of(exchange.rows[part.rows], self._dtype)
        call = _expert_call(exchange.layer, rows, _numbers(part.row_of), _numbers(part.expert_of))
        ticket = self._line.post(self._subject(part.shard), call)
        self._calls[ticket] = _Call(exchange, part, deadline)
        exchange.calls += 1
        self.calls += 1

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
            self._arrived(call, arrival.message)

    def _arrived(self, call: _Call, reply: Message | XpodError) -> None:
        exchange, part = call.exchange, call.part
        exchange.calls -= 1
        expected = (len(part.place), exchange.rows.shape[1])
        if isinstance(reply, XpodError):
            self._failed(exchange, part, reply)
        elif not isinstance(reply, ExpertReply) or (reply.rows.dtype, reply.rows.shape) != (
            self._dtype,
            expected,
        ):
            log.error("expert reply has the wrong form", shard=part.shard, layer=exchange.layer)
            self._failed(exchange, part, None)
        else:
            exchange.out[part.place] = reply.rows.numpy()

    def _failed(self, exchange: Exchange, part: ShardRows, error: XpodError | None) -> None:
        """The shard did not do its part: ask the others."""
        if error is not None:
            log.warning(
                "expert call failed",
                shard=part.shard,
                layer=exchange.layer,
                code=error.code,
                error=str(error),
            )
        self.retries += 1
        wanted = np.full_like(exchange.experts, -1)
        wanted.reshape(-1)[part.place] = exchange.experts.reshape(-1)[part.place]
        smallest = self._pairs(exchange, BUS_LIMIT)
        if isinstance(error, MessageTooLarge) and len(part.place) > smallest:
            self._ask(exchange, wanted, smallest)
        else:
            exchange.avoid |= {part.shard}
            self._ask(exchange, wanted)

    def _expire(self, now: float) -> None:
        late = [ticket for ticket, call in self._calls.items() if call.deadline <= now]
        self._fail(late, DeadlineExceeded(f"no answer in {self._call_timeout:g} s"))

    def _see_who_is_lost(self) -> None:
        while not self._lost.empty():
            shard = self._lost.get()
            gone = [ticket for ticket, call in self._calls.items() if call.part.shard == shard]
            self._fail(gone, ShardLost(f"{shard} is gone"))

    def _fail(self, tickets: list[int], error: XpodError) -> None:
        for ticket in tickets:
            self._line.forget(ticket)
            self._arrived(self._calls.pop(ticket), error)


def _numbers(values: Array) -> Tensor:
    """int32 `[P]`, contiguous, as it is."""
    return made_tensor("i32", values.shape, values.data.cast("B"))
