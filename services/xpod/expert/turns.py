"""Whose turn it is at a shard.

A small call and a piece of a large one in turn, where both wait: a token that somebody waits for does not wait for all
of other people's prompts, and prompts get on all the same. Knows no experts.
"""

from __future__ import annotations

from collections import deque

from xpod.expert.calls import Call
from xpod.expert.pieces import Large


class Turns:
    """Calls that wait, `small` and `large`, each in the order of their arrival."""

    def __init__(self) -> None:
        self.small: deque[Call] = deque()
        self.large: deque[Large] = deque()
        self._large_next = False

    def __len__(self) -> int:
        return len(self.small) + len(self.large)

    def take_small(self) -> list[Call]:
        """The oldest small call and all others of its layer; none where it is the turn of the first large one."""
        if not self.small or (self.large and self._large_next):
            self._large_next = False
            return []
        layer = self.small[0].layer
        taken = [call for call in self.small if call.layer == layer]
        self.small = deque(call for call in self.small if call.layer != layer)
        self._large_next = True
        return taken

    def end_large(self) -> None:
        """The first large call is done with."""
        self.large.popleft()
