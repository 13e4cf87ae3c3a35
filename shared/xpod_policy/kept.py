"""Blocks of a worker's own KV cache that others may share: whole, named, and kept when nobody uses them any more.

Knows names and numbers of blocks and who may go first. Does not know what lies in them. Source: the automatic prefix
caching of vLLM, there by hash of the prefix, too: whoever leaves frees its last block first, so that prefixes live on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class KeptBlocks:
    """At most `limit` blocks are kept that nobody uses; 0 keeps none, and then nothing is shared either."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._by_name: dict[bytes, int] = {}
        self._names: dict[int, bytes] = {}
        self._users: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # who goes first stands first

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: bytes) -> bool:
        return name in self._by_name

    @property
    def idle(self) -> int:
        """How many nobody uses."""
        return len(self._idle)

    def names(self) -> Iterable[bytes]:
        return self._by_name.keys()

    def leading(self, names: Iterable[bytes]) -> list[int]:
        """The blocks of the longest prefix of `names` that is here."""
        blocks = []
        for name in names:
            block = self._by_name.get(name)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def use(self, blocks: Iterable[int]) -> None:
        """Somebody reads these from now on."""
        for block in blocks:
            self._users[block] += 1
            self._idle.pop(block, None)

    def add(self, name: bytes, block: int) -> bool:
        """A block is whole; its owner uses it. False: one of that name is here already, or none is kept."""
        if not self.limit or name in self._by_name or block in self._names:
            return False
        self._by_name[name], self._names[block], self._users[block] = block, name, 1
        return True

    def leave(self, blocks: Sequence[int]) -> tuple[list[int], list[bytes]]:
        """Whoever had this block table leaves it: the blocks that are free now, and the names that are gone."""
        free = []
        for block in reversed(blocks):
            if block not in self._names:
                free.append(block)
                continue
            self._users[block] -= 1
            if not self._users[block]:
                self._idle[block] = None
        gone, names = self.give_up(len(self._idle) - self.limit)
        return free + gone, names

    def give_up(self, count: int) -> tuple[list[int], list[bytes]]:
        """Up to `count` blocks that nobody uses, the longest unused first, and their names."""
        blocks = []
        for _ in range(min(count, len(self._idle))):
            block, _ = self._idle.popitem(last=False)
            blocks.append(block)
        names = [self._names.pop(block) for block in blocks]
        for block, name in zip(blocks, names, strict=True):
            del self._by_name[name], self._users[block]
        return blocks, names
