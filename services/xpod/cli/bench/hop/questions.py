"""What the shards are asked: rows as a layer might have them, for experts drawn by chance.

Knows: the model's sizes. The same seed asks the same.
Does not know: who is asked. The layer changes from one question to the next, so that weights are as cold as in a pass.
"""

from __future__ import annotations

from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xpod_model.config import ModelConfig

Array = npt.NDArray[Any]
DEVIATION = 0.1


class Question(NamedTuple):
    """`rows` `[T, D]`, the bits of bf16; `experts` `[T, K]`, no two of a row the same."""

    layer: int
    rows: Array
    experts: Array


class Questions:
    def __init__(self, config: ModelConfig, seed: int) -> None:
        self._config = config
        self._random = np.random.default_rng(seed)
        self._layers = cycle(config.moe_layers)

    def ask(self, rows: int) -> Question:
        """The next question, with so many rows."""
        config, random = self._config, self._random
        values = random.normal(0.0, DEVIATION, (rows, config.hidden)).astype("<f4")
        bits = (values.view("<u4") >> 16).astype("<u2")
        order = random.random((rows, config.experts)).argsort(axis=1)
        return Question(next(self._layers), bits, order[:, : config.experts_per_token].astype(np.int64))
