"""Calls of one layer, merged, and the order in which layers get their turn.

Calls for one layer that are there together run as one: each expert then reads its weights once. Merging never
waits for more calls, and it changes no result, because every row's output depends on that row alone.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xpod_model.experts import ExpertSet
from xpod_proto import ExpertCall
from xpod_runtime.line import Incoming

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Call:
    """`rows` `[R, D]`, `row_of` and `expert_of` `[P]`; `origin` is who gets the `[P, D]` results."""

    layer: int
    rows: Array
    row_of: Array
    expert_of: Array
    origin: Incoming
    arrived: float

    @classmethod
    def of(cls, message: ExpertCall, origin: Incoming, arrived: float) -> Call:
        rows, row_of, expert_of = (t.numpy() for t in (message.rows, message.row_of, message.expert_of))
        return cls(message.layer, rows, row_of, expert_of, origin, arrived)


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


def run_merged(experts: ExpertSet, calls: list[Call]) -> list[Array]:
    """The results of calls of one layer, `[P, D]` each. Raises MissingExpert; IndexError for no such row or expert."""
    if len(calls) == 1:
        (call,) = calls
        return [experts.serve(call.layer, call.rows, call.row_of, call.expert_of)]
    for call in calls:  # among others' rows, a wrong number could name one of theirs
        if call.row_of.view(np.uint32).max() >= len(call.rows):
            raise IndexError("no such row")
    before = np.cumsum([0, *(len(call.rows) for call in calls[:-1])])
    rows = np.concatenate([call.rows for call in calls])
    row_of = np.concatenate([call.row_of + np.int32(n) for call, n in zip(calls, before, strict=True)])
    expert_of = np.concatenate([call.expert_of for call in calls])
    out = experts.serve(calls[0].layer, rows, row_of, expert_of)
    ends = np.cumsum([len(call.row_of) for call in calls])
    return np.split(out, ends[:-1])
