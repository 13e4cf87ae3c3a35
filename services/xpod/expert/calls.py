"""Expert calls, and those of one layer merged.

Calls for one layer that are there together run as one: each expert then reads its weights once. Merging never
waits for more calls, and it changes no result, because every row's output depends on that row alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xpod_model.experts import ExpertSet
from xpod_proto import ExpertCall, Tensor
from xpod_proto.tensor import made_tensor
from xpod_runtime.line import Incoming

Lend = Callable[[Incoming, int], memoryview]
"""Memory of so many bytes for the answer to a call."""


@dataclass(slots=True, eq=False)
class Call:
    """`message` fits the model but for its indices; `origin` is who gets the `[P, D]` results."""

    message: ExpertCall
    origin: Incoming
    arrived: float

    @property
    def layer(self) -> int:
        return self.message.layer

    @property
    def pairs(self) -> int:
        return self.message.expert_of.shape[0]


def run_merged(experts: ExpertSet, calls: list[Call], lend: Lend) -> list[Tensor]:
    """The results of calls of one layer, `[P, D]` each; that of a single one in memory that `lend` gives for it.

    Raises MissingExpert; IndexError for no such row or expert.
    """
    if len(calls) == 1:
        return [_run_one(experts, calls[0], lend)]
    messages = [call.message for call in calls]
    first = messages[0]
    rows, expert_of = (
        b"".join(part) for part in zip(*((m.rows.data, m.expert_of.data) for m in messages), strict=True)
    )
    size = experts.row_bytes
    out = memoryview(bytearray(sum(call.pairs for call in calls) * size))
    experts.serve(first.layer, rows, _row_of(messages), expert_of, out)
    results, begin, width = [], 0, first.rows.shape[1]
    for call in calls:
        end = begin + call.pairs * size
        results.append(Tensor(first.rows.dtype, (call.pairs, width), out[begin:end]))
        begin = end
    return results


def _run_one(experts: ExpertSet, call: Call, lend: Lend) -> Tensor:
    message = call.message
    rows, of, expert_of = message.rows, message.row_of.data, message.expert_of.data
    out = lend(call.origin, call.pairs * experts.row_bytes)
    experts.serve(message.layer, bytes(rows.data), bytes(of), bytes(expert_of), out)
    return made_tensor(rows.dtype, (call.pairs, rows.shape[1]), out)


def _row_of(messages: list[ExpertCall]) -> bytes:
    """The calls' row numbers among the rows of all. A wrong one must not name a row of another call: IndexError."""
    parts, before = [], 0
    for message in messages:
        numbers, rows = message.row_of.numpy(), message.rows.shape[0]
        if numbers.view(np.uint32).max() >= rows:
            raise IndexError("no such row")
        parts.append((numbers + np.int32(before)).tobytes())
        before += rows
    return b"".join(parts)
