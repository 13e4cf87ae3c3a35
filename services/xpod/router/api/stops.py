"""Stop strings in a growing text.

Knows: characters only. Does not know: tokens, sessions, or who asked for the stop.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Lets text through until a stop string completes; the stop string itself is never let through.

    The match is the one that completes first, and of those the one that begins first, so the result does not
    depend on how the text was cut into pieces. Text that may still become a stop string is held back.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        assert all(stops), "an empty stop string would match everywhere"
        self._stops = tuple(stops)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """What may go out now, and whether a stop string has completed. After that, push no more."""
        self._held += text
        cut = self._match()
        if cut is not None:
            out, self._held = self._held[:cut], ""
            return out, True
        keep = self._beginning()
        out, self._held = self._held[:keep], self._held[keep:]
        return out, False

    def flush(self) -> str:
        """What was held back and did not become a stop string."""
        out, self._held = self._held, ""
        return out

    def _match(self) -> int | None:
        found = ((self._held.find(stop), len(stop)) for stop in self._stops)
        ends = [(start + length, start) for start, length in found if start >= 0]
        return min(ends)[1] if ends else None

    def _beginning(self) -> int:
        """The first position from which the rest is the beginning of a stop string."""
        size = len(self._held)
        for start in range(max(0, size - self._longest + 1), size):
            if any(stop.startswith(self._held[start:]) for stop in self._stops):
                return start
        return size
