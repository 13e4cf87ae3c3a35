"""Large calls in pieces: between two of them, whoever wants little has its turn.

A row's output depends on that row alone, so where a call is cut changes no result. Knows: where to cut, and how large a
piece is. Does not know: whose turn is next.
"""

from __future__ import annotations

import numpy as np

from xpod.expert.calls import Call
from xpod_model.experts import ExpertSet
from xpod_proto import Tensor
from xpod_proto.tensor import made_tensor

PIECE_SECONDS = 0.004
LEAST_PAIRS = 64
"""Of a piece: with fewer, reading weights and calling costs more than it saves others."""
KEEPS = 0.8
"""Of what is known of the pace, with each piece."""


class Pace:
    """How many pairs take PIECE_SECONDS here, as measured."""

    def __init__(self) -> None:
        self._rate = 4 * LEAST_PAIRS / PIECE_SECONDS

    @property
    def pairs(self) -> int:
        """Of the next piece."""
        return max(LEAST_PAIRS, int(self._rate * PIECE_SECONDS))

    def took(self, pairs: int, seconds: float) -> None:
        """So many pairs were computed in one piece."""
        if pairs >= LEAST_PAIRS and seconds > 0:
            self._rate = KEEPS * self._rate + (1 - KEEPS) * pairs / seconds


class Large:
    """A large call, computed up to pair `done`."""

    def __init__(self, call: Call, row_bytes: int) -> None:
        self.call, self._size = call, row_bytes
        message = call.message
        self._rows, self._row_of = bytes(message.rows.data), bytes(message.row_of.data)
        self._expert_of = message.expert_of.numpy()
        self._out = memoryview(bytearray(call.pairs * row_bytes))
        self.done = 0
        self.seconds = 0.0
        """Of computing, so far."""

    @property
    def left(self) -> int:
        """Pairs to compute."""
        return self.call.pairs - self.done

    def run(self, experts: ExpertSet, most: int) -> int:
        """Compute at most `most` pairs more; how many. Raises MissingExpert, IndexError."""
        begin, end = self.done, self.done + cut(self._expert_of[self.done :], most)
        row_of, expert_of = self._row_of[4 * begin : 4 * end], self._expert_of[begin:end].tobytes()
        out = self._out[begin * self._size : end * self._size]
        experts.serve(self.call.layer, self._rows, row_of, expert_of, out)
        self.done = end
        return end - begin

    def result(self) -> Tensor:
        """`[P, D]`, once nothing is left."""
        rows = self.call.message.rows
        return made_tensor(rows.dtype, (self.call.pairs, rows.shape[1]), self._out)


def cut(expert_of: np.ndarray[tuple[int, ...], np.dtype[np.generic]], most: int) -> int:
    """How many of these pairs, `[P]`, to compute first: at most `most`, between two experts if that is not far."""
    if len(expert_of) <= most:
        return len(expert_of)
    before = np.flatnonzero(expert_of[1 : most + 1] != expert_of[:most]) + 1
    return int(before[-1]) if before.size and before[-1] > most // 2 else most
