"""How fast bytes may go: a rate, with a quarter of a second's worth at once after a rest. Knows no clock."""

from __future__ import annotations

BURST_SECONDS = 0.25


class Pace:
    """At most `rate` bytes a second."""

    def __init__(self, rate: float) -> None:
        assert rate > 0
        self._rate = rate
        self._free_at = 0.0

    def wait(self, size: int, now: float) -> float:
        """Seconds to wait before these bytes go, which then count as sent."""
        start = max(self._free_at, now - BURST_SECONDS)
        self._free_at = start + size / self._rate
        return max(0.0, start - now)
