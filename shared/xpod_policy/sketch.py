"""How often names were asked for lately, in a few bytes: a count-min sketch that forgets.

Four rows of counters from 0 to 15; what is counted is never less than the truth (but for the limit and the halving),
and rarely more. Names are hashes themselves, so each row uses a part of the name as its own hash.
Source: TinyLFU, Einziger, Friedman and Manes, 2017.
"""

from __future__ import annotations

import struct

ROWS = 4
MOST = 15
_PARTS = struct.Struct(f"<{ROWS}I")
_HALVES = bytes(value >> 1 for value in range(256))


class Sketch:
    """Counters for names of at least 16 bytes; `width` is a power of two, about the number of names to tell apart."""

    def __init__(self, width: int = 1 << 14) -> None:
        assert width & (width - 1) == 0, "a power of two"
        self._mask = width - 1
        self._rows = [bytearray(width) for _ in range(ROWS)]
        self.added = 0
        """Since the last halving."""

    def add(self, name: bytes) -> None:
        """The name was asked for. Only its smallest counters grow, as the others count somebody else, too."""
        places = self._places(name)
        least = min(row[place] for row, place in zip(self._rows, places, strict=True))
        self.added += 1
        if least < MOST:
            for row, place in zip(self._rows, places, strict=True):
                if row[place] == least:
                    row[place] = least + 1

    def count(self, name: bytes) -> int:
        """How often, 0 to 15."""
        return min(row[place] for row, place in zip(self._rows, self._places(name), strict=True))

    def halve(self) -> None:
        """What was asked for long ago counts half."""
        self._rows = [row.translate(_HALVES) for row in self._rows]
        self.added //= 2

    def _places(self, name: bytes) -> list[int]:
        return [part & self._mask for part in _PARTS.unpack_from(name)]
