"""Calls that wait for the compute thread, merged by layer.

Calls for one layer that are there together run as one: each expert then reads its weights once. Merging never
waits for more calls, and it changes no result, because every row's output depends on that row alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from xpod_model.bits import from_bits, to_bits
from xpod_model.experts import ExpertSet

Array = npt.NDArray[Any]


@dataclass(slots=True)
class Call:
    """`rows` `[R, D]`, `row_of` and `expert_of` `[P]`; `result` gets `[P, D]`."""

    layer: int
    rows: Array
    row_of: Array
    expert_of: Array
    result: asyncio.Future[Array]


class CallQueue:
    """First come, first served, but for calls of the same layer, which go along with the first."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._calls)

    def put(self, call: Call) -> None:
        self._calls.append(call)
        self._arrived.set()

    async def take(self) -> list[Call]:
        """Wait for a call; return it and all others of its layer."""
        while not self._calls:
            self._arrived.clear()
            await self._arrived.wait()
        layer = self._calls[0].layer
        taken = [call for call in self._calls if call.layer == layer]
        self._calls = deque(call for call in self._calls if call.layer != layer)
        return taken


def run_merged(experts: ExpertSet, calls: list[Call]) -> list[Array]:
    """The results of calls of one layer, `[P, D]` each. Raises MissingExpert."""
    rows, row_of, expert_of = _merge(calls)
    out = to_bits(
        experts.run(
            calls[0].layer,
            from_bits(rows, experts.dtype, experts.device),
            torch.from_numpy(row_of).to(experts.device),
            torch.from_numpy(expert_of).to(experts.device),
        )
    )
    ends = np.cumsum([len(call.row_of) for call in calls])
    return np.split(out, ends[:-1])


def _merge(calls: list[Call]) -> tuple[Array, Array, Array]:
    """One batch of the calls' rows; each call's row numbers move by the rows before it."""
    before = np.cumsum([0, *(len(call.rows) for call in calls[:-1])])
    rows = np.concatenate([call.rows for call in calls])
    row_of = np.concatenate([call.row_of.astype(np.int64) + n for call, n in zip(calls, before, strict=True)])
    expert_of = np.concatenate([call.expert_of.astype(np.int64) for call in calls])
    return rows, row_of, expert_of
