"""Until when blocks must stay: deadlines by name.

A name has one lease, whoever asked for it: the longest counts, and giving it up gives it up for all. Knows no clock:
times are seconds, handed in.
"""

from __future__ import annotations

from collections.abc import Iterator


class Leases:
    """`name in leases` holds until `expire` was told of a later time than the deadline."""

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, name: object) -> bool:
        return name in self._until

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._until)

    def hold(self, name: bytes, until: float) -> None:
        """Keep it at least until then."""
        self._until[name] = max(until, self._until.get(name, until))

    def release(self, name: bytes) -> None:
        self._until.pop(name, None)

    def expire(self, now: float) -> None:
        """Those whose time is over end."""
        for name in [name for name, until in self._until.items() if until <= now]:
            del self._until[name]

    def clear(self) -> None:
        self._until.clear()
