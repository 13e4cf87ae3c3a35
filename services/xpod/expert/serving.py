"""Answering expert calls, on the computing thread.

Knows: the line, the order of calls, what a bad call is. Does not know: placement, or where experts come from.
"""

from __future__ import annotations

import time

import structlog

from xpod.expert.calls import Call, CallQueue, run_merged
from xpod_model.config import ModelConfig
from xpod_model.errors import MissingExpert
from xpod_model.experts import ExpertSet
from xpod_model.memory import give_back_memory
from xpod_proto import ErrorReply, ExpertCall, ExpertReply
from xpod_proto.registry import maker_of
from xpod_runtime.compute import ComputeThread
from xpod_runtime.line import Arrival, Incoming, Line

log = structlog.get_logger(__name__)
_expert_reply = maker_of(ExpertReply)
REST_SECONDS = 1.0
DTYPES = {"float32": "fp32", "bfloat16": "bf16"}


class CallServer:
    """`serve` runs as one piece of work on the computing thread until `close`; loading gets its turn between calls."""

    def __init__(self, line: Line, experts: ExpertSet, config: ModelConfig, compute: ComputeThread) -> None:
        self._line, self._experts, self._config, self._compute = line, experts, config, compute
        self.dtype = DTYPES[str(experts.dtype).removeprefix("torch.")]
        self._queue = CallQueue()
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
            if len(self._queue):
                self._run(self._queue.take())

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
            self._queue.put(Call(message, origin, time.monotonic()))

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

    def _run(self, calls: list[Call]) -> None:
        began = time.monotonic()
        try:
            results = run_merged(self._experts, calls, self._line.lend)
        except (MissingExpert, IndexError) as error:
            if len(calls) == 1:
                code = "missing_expert" if isinstance(error, MissingExpert) else "bad_request"
                self._refuse(calls[0].origin, code, str(error))
            else:  # only the calls that want it are refused
                for call in calls:
                    self._run([call])
            return
        computed = _microseconds(time.monotonic() - began)
        for call, result in zip(calls, results, strict=True):
            reply = _expert_reply(result, _microseconds(began - call.arrived), computed)
            self._line.answer(call.origin, reply)
        self.served += len(calls)


def _microseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e6))
