"""Calls of one layer, merged, and the order in which layers get their turn.

Calls for one layer that are there together run as one: each expert then reads its weights once. Merging never
waits for more calls, and it changes no result, because every row's output depends on that row alone.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from xpod_model.experts import ExpertSet
from xpod_proto import ExpertCall, Tensor
from xpod_proto.tensor import made_tensor
from xpod_runtime.line import Incoming


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


class CallQueue:
    """First come, first served, but for calls of the same layer, which go along with the first."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()

    def __len__(self) -> int:
        return len(self._calls)

    def put(self, call: Call) -> None:
        self._calls.append(call)

    def take(self) -> list[Call]:
        """The oldest call and all others of its layer; there must be one."""
        layer = self._calls[0].layer
        taken = [call for call in self._calls if call.layer == layer]
        self._calls = deque(call for call in self._calls if call.layer != layer)
        return taken


def run_merged(experts: ExpertSet, calls: list[Call]) -> list[Tensor]:
    """The results of calls of one layer, `[P, D]` each. Raises MissingExpert; IndexError for no such row or expert."""
    if len(calls) == 1:
        return [_run_one(experts, calls[0].message)]
    messages = [call.message for call in calls]
    first, count = messages[0], sum(message.rows.shape[0] for message in messages)
    rows, expert_of = (
        b"".join(part) for part in zip(*((m.rows.data, m.expert_of.data) for m in messages), strict=True)
    )
    out = experts.serve(first.layer, count, rows, _row_of(messages), expert_of)
    results, begin, width = [], 0, first.rows.shape[1]
    size = len(out) // sum(call.pairs for call in calls)
    for call in calls:
        end = begin + call.pairs * size
        results.append(Tensor(first.rows.dtype, (call.pairs, width), memoryview(out)[begin:end]))
        begin = end
    return results


def _run_one(experts: ExpertSet, call: ExpertCall) -> Tensor:
    rows, of, expert_of = call.rows, call.row_of.data, call.expert_of.data
    out = experts.serve(call.layer, rows.shape[0], bytes(rows.data), bytes(of), bytes(expert_of))
    return made_tensor(rows.dtype, (call.expert_of.shape[0], rows.shape[1]), out)


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
