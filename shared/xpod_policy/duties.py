"""Who should have which block, and which blocks a MemPool node has to look at when the nodes change.

A block's homes are the first nodes of its rendezvous order. Who has a block and is one of its homes sees to it that the
others have it; who has it and is not hands it to the homes. A node is known by name and incarnation: one that came back
may have lost everything. Knows no blocks' bytes, and nothing of how they travel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from xpod_policy.rendezvous import replicas

COPIES = 2


def homes(name: bytes, nodes: Iterable[str]) -> list[str]:
    """The nodes that should have the block, the first choice first."""
    return replicas(name, nodes, COPIES)


@dataclass(frozen=True, slots=True)
class Duty:
    """See to it that each of `others` has the block; then, unless `keep`, drop it."""

    others: tuple[str, ...]
    keep: bool


class Duties:
    """Those of the node `me`: which of its names are still to be looked at (`len`), as the nodes are now."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._before: dict[str, str] = {}
        self.nodes: dict[str, str] = {}
        """Incarnations by name."""
        self._due: dict[bytes, bool] = {}  # does it stay here?

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, name: bytes) -> bool:
        return name in self._due

    def nodes_are(self, nodes: Mapping[str, str]) -> bool:
        """The nodes from now on, `me` among them; are they others than before? Then `consider` all names."""
        self._before, self.nodes = self.nodes, dict(nodes)
        return self._before != self.nodes

    def consider(self, names: Iterable[bytes]) -> None:
        """Of these, those are due whose homes changed with the nodes."""
        for name in names:
            was = {(home, self._before[home]) for home in homes(name, self._before)}
            now = homes(name, self.nodes)
            if self._me not in now or not was.issuperset((home, self.nodes[home]) for home in now):
                self._due[name] = self._me in now

    def look_at(self, names: Iterable[bytes]) -> None:
        """These are due, whether or not their homes changed."""
        for name in names:
            self._due[name] = self.duty(name).keep

    def done(self, names: Iterable[bytes]) -> None:
        """They are where they should be, or are not here any more."""
        for name in names:
            self._due.pop(name, None)

    def duty(self, name: bytes) -> Duty:
        """What is to be done for it."""
        where = homes(name, self.nodes)
        return Duty(tuple(home for home in where if home != self._me), self._me in where)

    def in_order(self, frequency: Callable[[bytes], int]) -> list[bytes]:
        """What is due: first what stays here, the most used first, because homes that lack it wait for it.

        What does not stay comes last: its homes have most of it by then from one another.
        """
        return sorted(self._due, key=lambda name: (not self._due[name], -frequency(name)))
