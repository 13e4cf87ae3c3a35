"""Reply subjects: one subscription, many waiters.

Knows: which reply subject belongs to whom.
Does not know: what frames contain, or how they travel.
"""

from __future__ import annotations

from xpod_runtime.wire import Deliver, Frame


class Inbox:
    """Hands out subjects below `prefix` and gives each frame to the one who waits for it."""

    def __init__(self, prefix: str, on_stray: Deliver) -> None:
        self.pattern = f"{prefix}.*"
        self._prefix = prefix
        self._next = 0
        self._waiting: dict[str, Deliver] = {}
        self._on_stray = on_stray

    def open(self, deliver: Deliver, mark: str = "") -> str:
        """A fresh subject, with `mark` at its end, whose frames go to `deliver` until it is closed."""
        self._next += 1
        subject = f"{self._prefix}.{self._next:x}{mark}"
        self._waiting[subject] = deliver
        return subject

    def close(self, subject: str) -> None:
        self._waiting.pop(subject, None)

    def deliver(self, frame: Frame) -> None:
        """Routes a frame. A stray one (its waiter gave up) goes to `on_stray`."""
        self._waiting.get(frame.subject, self._on_stray)(frame)

    def __len__(self) -> int:
        return len(self._waiting)
