"""What has to be told of a set of names that changes: which came and which went since it was last told.

Knows nothing of who is told, or when. A name that came and went again, or the other way round, is no news.
"""

from __future__ import annotations

from collections.abc import Iterable


class News:
    """`take` gives what is to be told next; `told` is the set as those who heard everything know it."""

    def __init__(self) -> None:
        self._added: dict[bytes, None] = {}  # in the order in which they came
        self._removed: dict[bytes, None] = {}

    def __bool__(self) -> bool:
        return bool(self._added or self._removed)

    def added(self, name: bytes) -> None:
        """It was not in the set, and is now."""
        if name in self._removed:
            del self._removed[name]
        else:
            self._added[name] = None

    def removed(self, name: bytes) -> None:
        """It was in the set, and is not now."""
        if name in self._added:
            del self._added[name]
        else:
            self._removed[name] = None

    def take(self, limit: int) -> tuple[list[bytes], list[bytes]]:
        """At most `limit` names that came and went, the oldest first: they count as told from now on."""
        went = list(self._removed)[:limit]
        came = list(self._added)[: limit - len(went)]
        for name in went:
            del self._removed[name]
        for name in came:
            del self._added[name]
        return came, went

    def told(self, names: Iterable[bytes]) -> set[bytes]:
        """The set as it was when it was last told, where it is `names` now."""
        return (set(names) - self._added.keys()) | self._removed.keys()
