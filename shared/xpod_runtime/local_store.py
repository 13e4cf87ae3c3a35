"""A store in memory, for tests of everything above it.

Knows: its shelf, which all stores of that name on a fabric share. Does not know: time; nothing is forgotten by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xpod_proto import Message
from xpod_proto.codec import decode, encode
from xpod_runtime.errors import StoreError
from xpod_runtime.store import Entry, Store


@dataclass
class Shelf:
    """What is kept: (bytes, revision) by key. `answers` is false while nobody can reach it."""

    values: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    revision: int = 0
    answers: bool = True

    def write(self, key: str, message: Message) -> int:
        self.revision += 1
        self.values[key] = (encode(message), self.revision)
        return self.revision


class LocalStore(Store):
    """One member's way to a shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._all = shelf

    @property
    def _shelf(self) -> Shelf:
        if not self._all.answers:
            raise StoreError("the store does not answer")
        return self._all

    async def put(self, key: str, message: Message) -> None:
        self._shelf.write(key, message)

    async def get(self, key: str) -> Entry | None:
        found = self._shelf.values.get(key)
        return None if found is None else Entry(decode(found[0]), found[1])

    async def claim(self, key: str, message: Message, revision: int) -> int | None:
        shelf = self._shelf
        if shelf.values.get(key, (b"", 0))[1] != revision:
            return None
        return shelf.write(key, message)

    async def below(self, prefix: str) -> dict[str, Message]:
        start = prefix + "."
        return {
            key.removeprefix(start): decode(value)
            for key, (value, _) in self._shelf.values.items()
            if key.startswith(start)
        }

    async def leader(self) -> str:
        return "shelf" if self._shelf else ""

    async def drop(self, prefix: str) -> None:
        values = self._shelf.values
        for key in [key for key in values if key.startswith(prefix + ".")]:
            del values[key]
