"""The global prompt tree: who has which block, by name.

A block's name is the hash of its whole prefix, so a table of names is a tree: whoever has a name and all names before
it has that prefix. A hint: what it says of a holder may be out of date, and then costs time, never a token.
Source: MemServe (2406.17565) §6, the prompt trees of its global scheduler, one for each kind of instance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xpod_policy.blocks import NAME_BYTES

MOST_HOLDERS = 64
MOST_BLOCKS = 1_000_000
MOST_SHARED_MASKS = 4096


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Of a sequence's blocks: how many from the first on each holder has (holders with none are left out), and how
    many the holders that were asked for have together."""

    held: dict[str, int]
    together: int


class BlockIndex:
    """Names of 16 bytes and their holders; of `names: bytes`, one name stands behind the other.

    Holders beyond 64 are not taken in, and neither are new names beyond `most`: what is there longest are the
    beginnings, which most prompts share, so that dropping the oldest would cost more. `refused` counts such names.
    Takes 100 to 120 bytes a block: the name (64), its place in the table (30 to 60), and a mask that others share.
    """

    def __init__(self, most: int = MOST_BLOCKS) -> None:
        self.refused = 0
        self._most = most
        self._masks: dict[bytes, int] = {}
        self._bits: dict[str, int] = {}
        self._shared: dict[int, int] = {}

    def __len__(self) -> int:
        """How many blocks anybody has."""
        return len(self._masks)

    @property
    def holders(self) -> list[str]:
        """Who has blocks, or had some, by name."""
        return sorted(self._bits)

    def add(self, holder: str, names: bytes) -> None:
        """`holder` has these, too."""
        bit = self._bit(holder)
        masks, most = self._masks, self._most
        for name in _split(names):
            known = masks.get(name, 0)
            if bit and (known or len(masks) < most):
                masks[name] = self._share(known | bit)
            else:
                self.refused += 1

    def remove(self, holder: str, names: bytes) -> None:
        """`holder` has these no more."""
        bit = self._bits.get(holder, 0)
        for name in _split(names):
            self._take(name, bit)

    def replace(self, holder: str, names: bytes) -> None:
        """`holder` has these, and nothing else."""
        self.forget(holder)
        self.add(holder, names)

    def forget(self, holder: str) -> None:
        """`holder` has nothing. Takes time for every block of all."""
        bit = self._bits.pop(holder, 0)
        for name in [name for name, mask in self._masks.items() if mask & bit]:
            self._take(name, bit)

    def names(self, holder: str) -> set[bytes]:
        """All that `holder` has. Takes time for every block of all."""
        bit = self._bits.get(holder, 0)
        return {name for name, mask in self._masks.items() if mask & bit}

    def match(self, names: Iterable[bytes], together: Iterable[str] = ()) -> Prefixes:
        """How much of a sequence each holder has, and the holders in `together` as one.

        No more names are drawn once nobody has more.
        """
        union = sum(self._bits.get(holder, 0) for holder in set(together))
        alone = (1 << MOST_HOLDERS) - 1
        fallen: list[tuple[int, int]] = []
        count, joint = 0, 0
        for name in names:
            mask = self._masks.get(name, 0)
            if lost := alone & ~mask:
                fallen.append((lost, count))
                alone &= mask
            union = union if mask & union else 0
            if not (alone or union):
                break
            count += 1
            joint = count if union else joint
        fallen.append((alone, count))
        return Prefixes(self._lengths(fallen), joint)

    def _lengths(self, fallen: list[tuple[int, int]]) -> dict[str, int]:
        return {
            holder: count
            for holder, bit in self._bits.items()
            for mask, count in fallen
            if mask & bit and count
        }

    def _bit(self, holder: str) -> int:
        """The holder's bit, a free one for a new holder; 0 where there is none."""
        if holder not in self._bits and len(self._bits) < MOST_HOLDERS:
            taken = sum(self._bits.values())
            self._bits[holder] = ~taken & (taken + 1)
        return self._bits.get(holder, 0)

    def _take(self, name: bytes, bit: int) -> None:
        rest = self._masks.get(name, 0) & ~bit
        if rest:
            self._masks[name] = self._share(rest)
        else:
            self._masks.pop(name, None)

    def _share(self, mask: int) -> int:
        """One object for all equal masks: a table has few different ones."""
        if len(self._shared) >= MOST_SHARED_MASKS:
            self._shared.clear()
        return self._shared.setdefault(mask, mask)


def _split(names: bytes) -> Iterable[bytes]:
    return (names[start : start + NAME_BYTES] for start in range(0, len(names), NAME_BYTES))
