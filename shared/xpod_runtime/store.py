"""The memory of last resort: messages by key that outlive every process of the pod.

Knows: the contract that every store keeps (one conformance suite holds all of them to it).
Does not know: where it is kept; see `nats_store` and `local_store`.

Nothing that a client waits for may wait for a store: where it is replicated, it may not answer for seconds while it
elects a leader.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from xpod_proto import Message


@dataclass(frozen=True, slots=True)
class Entry:
    """What a key holds, and the number of the write that put it there."""

    message: Message
    revision: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a store holds at most; where one more would be too much, it forgets what was written longest ago."""

    keys: int
    bytes: int


class Store(ABC):
    """Keys are words joined by dots. Whatever is not written again is forgotten after the store's lifetime.

    Every method raises StoreError where the store does not answer in time, or refuses.
    """

    @abstractmethod
    async def put(self, key: str, message: Message) -> None:
        """Writes, and returns once the store has it."""

    @abstractmethod
    async def get(self, key: str) -> Entry | None:
        """What `key` holds."""

    @abstractmethod
    async def claim(self, key: str, message: Message, revision: int) -> int | None:
        """Writes if `key` still holds that revision (0: nothing); the new revision, None: somebody was quicker."""

    @abstractmethod
    async def below(self, prefix: str) -> dict[str, Message]:
        """All messages whose keys begin with `prefix` and a dot, by the rest of the key."""

    @abstractmethod
    async def leader(self) -> str:
        """The server that all writes go through now; empty where none does."""

    @abstractmethod
    async def drop(self, prefix: str) -> None:
        """Forgets all keys that begin with `prefix` and a dot."""
