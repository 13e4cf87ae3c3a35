"""What sequences that are over said on this worker: for a router that missed a part of it.

Knows events and token ids. Does not know who asks, or why.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from xpod.attention.sequence import Sequence
from xpod_proto import Tensor, TokenEvent

REMEMBERED = 1024
JUST_ENDED = 64


class Said(NamedTuple):
    """What a sequence said here, and all of its token ids."""

    events: tuple[TokenEvent, ...]
    tokens: Tensor

    @classmethod
    def of(cls, sequence: Sequence) -> Said:
        return cls(tuple(sequence.events), Tensor.of_tokens(sequence.generated))

    def answers(self, epoch: int, start: int) -> bool:
        """Is it what a task under `epoch` asks for again, from token `start` on?"""
        return self.events[-1].epoch == epoch and self.events[0].index <= start


class Past:
    """Of the REMEMBERED sequences that ended last."""

    def __init__(self) -> None:
        self._said: OrderedDict[str, Said] = OrderedDict()

    def remember(self, sequence: Sequence) -> None:
        """It is over."""
        self._said[sequence.id] = Said.of(sequence)
        while len(self._said) > REMEMBERED:
            self._said.popitem(last=False)

    def find(self, session: str) -> Said | None:
        return self._said.get(session)

    def last_words(self) -> list[TokenEvent]:
        """Of those that have just ended, the last token each."""
        return [said.events[-1] for said in list(self._said.values())[-JUST_ENDED:]]
