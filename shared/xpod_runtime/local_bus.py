"""The bus in memory, for tests of everything above it.

Knows: its fabric, which plays the server and its faults (see `local_fabric`).
Does not know: sockets; what the fabric holds stays held until the test releases it.
"""

from __future__ import annotations

from xpod_runtime.local_fabric import LocalFabric, LocalWire
from xpod_runtime.local_store import LocalStore
from xpod_runtime.receiving import Limits
from xpod_runtime.store import Bounds
from xpod_runtime.wire_bus import WireBus

__all__ = ["LocalBus", "LocalFabric"]


class LocalBus(WireBus):
    """A bus on a fabric, known there as `name`. `await bus.start()` is not needed."""

    def __init__(
        self, fabric: LocalFabric, name: str, *, payload_limit: int = 0, limits: Limits | None = None
    ) -> None:
        self._fabric = fabric
        self._local = LocalWire(fabric, name)
        super().__init__(self._local, payload_limit=payload_limit, limits=limits)
        self._local.open(self._inbox.pattern, "", self._inbox.deliver)

    def store(self, name: str, *, lifetime: float, bounds: Bounds | None = None) -> LocalStore:
        return LocalStore(self._fabric.shelves[name])

    def disconnect(self) -> None:
        """Loses the connection: waiting requests fail, nothing arrives."""
        self._local.disconnect()

    def reconnect(self) -> None:
        """Gets it back; subscriptions are live again."""
        self._local.reconnect()

    async def start(self) -> None:
        """Nothing to do: the inbox is open from the start."""
