"""Calls of functions in the text of an answer, found while it grows.

Knows: that a call stands between tags, and what is no call stays text. Does not know: how a call is written (see
`json_calls`, `tagged_calls`), tokens, or what becomes of a call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

OPEN, CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True, slots=True)
class CallDelta:
    """More of call number `index`: its `id` and `name` at the beginning only, and `arguments`, JSON in pieces."""

    index: int
    arguments: str
    id: str = ""
    name: str = ""


class CallReader(ABC):
    """Tells words from calls. The result does not depend on how the text was cut into pieces, but for the cuts.

    Calls are named after the `session` that makes them, so that whoever reads it again finds the same names.
    """

    begins: tuple[str, ...] = (OPEN,)
    """What a call begins with."""

    def __init__(self, session: str) -> None:
        self.calls = 0
        self._session = session
        self._held = ""
        self._begun = ""
        """The tag of what may become a call, and is none yet."""
        self._after_call = False
        self._reads: Callable[[list[CallDelta]], str | None] = self._words

    def push(self, text: str) -> tuple[str, list[CallDelta]]:
        """The words that may go out now, and what there is of calls."""
        self._held += text
        words, calls = "", list[CallDelta]()
        while (read := self._reads(calls)) is not None:
            words += read
        return words, calls

    def flush(self) -> str:
        """What was held back and did not become a call, as the words that it is."""
        held, self._held = self._begun + self._held, ""
        return held if self._begun or self._reads == self._words else ""

    # Each of those that read takes what it can, says which words that were, and None once it needs more text.

    def _words(self, calls: list[CallDelta]) -> str | None:
        if self._after_call:  # the line break between two calls
            self._held = self._held.lstrip()
            self._after_call = not self._held
        at, tag = min(
            ((at, tag) for tag in self.begins if (at := self._held.find(tag)) >= 0), default=(-1, "")
        )
        if tag:
            words, self._held = self._held[:at], self._held[at + len(tag) :]
            self._begun, self._reads = tag, self._head
            return words
        keep = kept_back(self._held, self.begins)
        words, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return words or None

    @abstractmethod
    def _head(self, calls: list[CallDelta]) -> str | None:
        """What stands behind the tag, up to where it is clear that this is a call, or none."""

    def _begin(self, name: str, arguments: str = "") -> CallDelta:
        """The next call; from now on it is one."""
        self._begun = ""
        self.calls += 1
        index = self.calls - 1
        return CallDelta(index, arguments, f"call_{self._session}_{index}", name)

    def _more(self, arguments: str) -> CallDelta:
        """Of the call that was begun last."""
        return CallDelta(self.calls - 1, arguments)

    def _no_call(self, end: int) -> str:
        """What was begun and the next so many characters are words after all."""
        words = self._begun + self._held[:end]
        self._begun, self._held, self._reads = "", self._held[end:], self._words
        return words


def kept_back(text: str, tags: tuple[str, ...]) -> int:
    """So many characters at its end may be the beginning of one of the tags."""
    longest = max(map(len, tags)) - 1
    return next(
        (n for n in range(min(longest, len(text)), 0, -1) if any(tag.startswith(text[-n:]) for tag in tags)),
        0,
    )
