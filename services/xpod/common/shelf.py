"""What the pod keeps in its store about itself: the supervisors' lease and the placement that they wish.

Knows: names of keys. Does not know: who leads, or what a placement is made of.
"""

from __future__ import annotations

import hashlib

from xpod_proto import LeaseHeld, Placement, subjects
from xpod_runtime.bus import Bus
from xpod_runtime.store import Store

LIFETIME = 30 * 86400.0
LEASE = "lease"


class PodShelf:
    """The store of one pod for one model. Its methods raise StoreError where the store does not answer."""

    def __init__(self, bus: Bus, pod: str, model: str) -> None:
        self._store: Store = bus.store(subjects.shelf_bucket(pod), lifetime=LIFETIME)
        self._placement = f"placement.{hashlib.sha256(model.encode()).hexdigest()[:16]}"

    async def lease(self) -> tuple[str, int]:
        """Who holds it, and its revision; nobody has 0."""
        entry = await self._store.get(LEASE)
        if entry is None or not isinstance(entry.message, LeaseHeld):
            return "", 0 if entry is None else entry.revision
        return entry.message.holder, entry.revision

    async def claim(self, member: str, revision: int) -> int | None:
        """The lease for `member`, if it still has that revision; its new one."""
        return await self._store.claim(LEASE, LeaseHeld(member), revision)

    async def placement(self) -> Placement | None:
        """The last wish."""
        entry = await self._store.get(self._placement)
        return entry.message if entry is not None and isinstance(entry.message, Placement) else None

    async def keep(self, placement: Placement) -> None:
        """The wish, for whoever starts later."""
        await self._store.put(self._placement, placement)
