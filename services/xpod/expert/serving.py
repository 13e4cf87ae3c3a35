"""Answering expert calls, on the computing thread.

Knows: the line, the order of calls, what a bad call is. Does not know: placement, or where experts come from.
"""

from __future__ import annotations

import math
import time

import structlog

from xpod.expert.calls import Call, run_merged
from xpod.expert.heat import Heat
from xpod.expert.pieces import Large, Pace
from xpod.expert.turns import Turns
from xpod_model.config import ModelConfig
from xpod_model.errors import MissingExpert
from xpod_model.experts import ExpertSet
from xpod_model.memory import give_back_memory
from xpod_proto import ErrorReply, ExpertCall, ExpertReply, Tensor
from xpod_proto.registry import maker_of
from xpod_runtime import span_names as names
from xpod_runtime.compute import ComputeThread
from xpod_runtime.line import Arrival, Incoming, Line
from xpod_runtime.trace_context import TraceContext
from xpod_runtime.tracing import Tracer, now_ns

log = structlog.get_logger(__name__)
_expert_reply = maker_of(ExpertReply)
REST_SECONDS = 1.0
ALONE_SECONDS = 0.25
"""After so long without a small call, large ones are computed as a whole: what is cut costs some percent more."""
DTYPES = {"float32": "fp32", "bfloat16": "bf16"}


class CallServer:
    """`serve` runs as one piece of work on the computing thread until `close`; loading gets its turn between calls."""

    def __init__(
        self,
        line: Line,
        experts: ExpertSet,
        config: ModelConfig,
        compute: ComputeThread,
        tracer: Tracer | None = None,
    ) -> None:
        self._line, self._experts, self._config, self._compute = line, experts, config, compute
        self.dtype = DTYPES[str(experts.dtype).removeprefix("torch.")]
        self.heat = Heat(config.layers, config.experts)
        self._tracer = tracer or Tracer()
        self._queue = Turns()
        self._small_at = -math.inf
        self._pace = Pace()
        self._closed = False
        self.served = self._served_before = 0

    @property
    def waiting(self) -> int:
        """Calls that have arrived and not begun."""
        return len(self._queue)

    def close(self) -> None:
        """From any thread: `serve` returns once the present calls are answered."""
        self._closed = True
        self._line.interrupt()

    def serve(self, subject: str) -> None:
        """Answer calls to `subject`."""
        self._line.listen(subject)
        while not self._closed:
            self._gather()
            self._compute.breathe()
            calls = self._queue.take_small()
            if calls:
                self._run(calls)
            elif self._queue.large:
                self._run_piece(self._queue.large[0])

    def _gather(self) -> None:
        """What is there by now; waits only where there is nothing to do."""
        arrival = self._line.take(0) if len(self._queue) else self._rest()
        while arrival is not None:
            if isinstance(arrival, Incoming):
                self._accept(arrival)
            arrival = self._line.take(0)

    def _rest(self) -> Arrival | None:
        """Wait for a call; after a second without any, nothing is kept for the next one."""
        with self._compute.resting():
            arrival = self._line.take(None if self.served == self._served_before else REST_SECONDS)
            if arrival is None and self.served != self._served_before:
                self._served_before = self.served
                give_back_memory()
            return arrival

    def _accept(self, origin: Incoming) -> None:
        message = origin.message
        if not isinstance(message, ExpertCall):
            self._refuse(origin, "unhandled", f"a shard's calls do not take {type(message).__name__}")
        elif not self._fits(message):
            self._refuse(
                origin,
                "bad_request",
                f"a call for layer {message.layer} with rows {message.rows.dtype} {message.rows.shape}"
                " does not fit the model",
            )
        else:
            call = Call(message, origin, time.monotonic())
            if call.pairs <= self._pace.pairs:
                self._queue.small.append(call)
            else:
                self._queue.large.append(Large(call, self._experts.row_bytes))

    def _fits(self, call: ExpertCall) -> bool:
        config = self._config
        rows, row_of, expert_of = call.rows, call.row_of, call.expert_of
        return (
            call.layer in config.moe_layers
            and (rows.dtype, row_of.dtype, expert_of.dtype) == (self.dtype, "i32", "i32")
            and len(rows.shape) == 2
            and rows.shape[1] == config.hidden
            and len(row_of.shape) == 1
            and row_of.shape == expert_of.shape
            and row_of.shape[0] > 0
        )

    def _refuse(self, origin: Incoming, code: str, why: str) -> None:
        if origin.reply:
            self._line.answer(origin, ErrorReply(code, why))

    def _refuse_call(self, call: Call, error: MissingExpert | IndexError) -> None:
        code = "missing_expert" if isinstance(error, MissingExpert) else "bad_request"
        self._refuse(call.origin, code, str(error))

    def _run(self, calls: list[Call]) -> None:
        began = self._small_at = time.monotonic()
        try:
            results = run_merged(self._experts, calls, self._line.lend)
        except (MissingExpert, IndexError) as error:
            if len(calls) == 1:
                self._refuse_call(calls[0], error)
            else:  # only the calls that want it are refused
                for call in calls:
                    self._run([call])
            return
        seconds = time.monotonic() - began
        for call, result in zip(calls, results, strict=True):
            self._answer(call, result, began - call.arrived, seconds)

    def _run_piece(self, large: Large) -> None:
        """A part of a large call; then others have their turn."""
        began = time.monotonic()
        try:
            alone = began - self._small_at > ALONE_SECONDS
            pairs = large.run(self._experts, large.left if alone else self._pace.pairs)
        except (MissingExpert, IndexError) as error:
            self._queue.end_large()
            self._refuse_call(large.call, error)
            return
        seconds = time.monotonic() - began
        self._pace.took(pairs, seconds)
        large.seconds += seconds
        if not large.left:
            self._queue.end_large()
            waited = time.monotonic() - large.call.arrived - large.seconds
            self._answer(large.call, large.result(), waited, large.seconds)

    def _answer(self, call: Call, result: Tensor, waited: float, computed: float) -> None:
        reply = _expert_reply(result, _microseconds(waited), _microseconds(computed))
        self._line.answer(call.origin, reply)
        self.heat.count(call.layer, call.message.expert_of.numpy())
        self.served += 1
        if call.origin.trace:
            self._trace(call, waited, computed)

    def _trace(self, call: Call, waited: float, computed: float) -> None:
        end = now_ns()
        self._tracer.note(
            names.EXPERT,
            TraceContext.parse(call.origin.trace),
            end - round((waited + computed) * 1e9),
            end,
            detail=True,
            layer=call.layer,
            pairs=call.pairs,
            queued_us=_microseconds(waited),
        )


def _microseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e6))
