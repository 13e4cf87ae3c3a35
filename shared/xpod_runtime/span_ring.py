"""The last spans of a member, within bounds.

Knows: how many there may be, and how large they are together. Does not know: what they tell, or who asks.
"""

from __future__ import annotations

import threading
from collections import deque

from xpod_proto import SpanRecord

RECORD_BYTES = 600
"""What a span takes besides its texts."""
VALUE_BYTES = 40


class SpanRing:
    """At most `most` spans, of `most_bytes` in all; the oldest go first. For any thread."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._spans: deque[tuple[SpanRecord, int]] = deque()
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, span: SpanRecord) -> None:
        """The newest."""
        size = size_of(span)
        with self._lock:
            self._spans.append((span, size))
            self._bytes += size
            while len(self._spans) > self._most or self._bytes > self._most_bytes:
                self._bytes -= self._spans.popleft()[1]

    def all(self) -> list[SpanRecord]:
        """Oldest first, by their end."""
        with self._lock:
            return [span for span, _ in self._spans]


def size_of(span: SpanRecord) -> int:
    """Bytes of memory, about."""
    texts = (*span.attributes, *(value for value in span.attributes.values() if isinstance(value, str)))
    return RECORD_BYTES + VALUE_BYTES * len(span.attributes) + len(span.error) + sum(map(len, texts))
