"""An answer as it comes: Markdown on a terminal, plain text elsewhere, and below it how it came.

Knows: rich, what is complete in half a Markdown text. Does not know: where the text comes from.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markdown import Markdown
from rich.text import Text

from xpod.cli.answer import Answer

FRAMES_A_SECOND = 12
FENCE = "```"


class Screen(Protocol):
    """Where one answer appears."""

    def hear(self, text: str) -> None:
        """More of it."""

    def moved(self, left: str, to: str) -> None:
        """Another router goes on with it."""

    def done(self, answer: Answer | None) -> None:
        """All of it is there; None: the user has heard enough."""

    def close(self) -> None:
        """However it ended."""


class PlainScreen:
    """Text as it is, and nothing else."""

    def hear(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def moved(self, left: str, to: str) -> None:
        """Whoever reads this wants the text alone."""

    def done(self, answer: Answer | None) -> None:
        self.hear("\n")

    def close(self) -> None:
        """Nothing is open."""


class MarkdownScreen:
    """Paragraphs that are complete are printed for good; what follows them is drawn anew as it grows."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._began, self._first = clock(), 0.0
        self._pending = ""
        self._news: list[str] = []
        self._live = Live(
            console=console, refresh_per_second=FRAMES_A_SECOND, get_renderable=self._tail, transient=True
        )
        self._live.start()

    def hear(self, text: str) -> None:
        self._first = self._first or self._clock()
        complete, self._pending = split_complete(self._pending + text)
        if complete.strip():
            self._console.print(Markdown(complete), end="\n\n" if complete.endswith("\n\n") else "\n")

    def moved(self, left: str, to: str) -> None:
        told = f"{left} is gone, {to} goes on" if left != to else f"{left} is asked again"
        if told not in self._news:
            self._news.append(told)

    def done(self, answer: Answer | None) -> None:
        self.close()
        if self._pending.strip():
            self._console.print(Markdown(self._pending))
        for line in self._news:
            self._console.print(Text(line, style="yellow"))
        if answer is not None:
            self._console.print(Text(summary(answer, self._began), style="dim"))
        else:
            self._console.print(Text("stopped", style="dim"))

    def close(self) -> None:
        self._live.stop()

    def _tail(self) -> RenderableType:
        waiting = "" if self._first else f"{self._clock() - self._began:.1f} s"
        shown: list[RenderableType] = [Markdown(self._pending)] if self._pending.strip() else []
        if waiting:
            shown.append(Text(waiting, style="dim"))
        return Group(*shown, *(Text(line, style="yellow") for line in self._news))


def split_complete(text: str) -> tuple[str, str]:
    """The paragraphs of a Markdown text that nothing can change any more, and the rest.

    A paragraph ends with an empty line outside of a fence.
    """
    end = position = 0
    fenced = False
    for line in text.splitlines(keepends=True):
        position += len(line)
        if line.lstrip().startswith(FENCE):
            fenced = not fenced
        if not fenced and line.endswith("\n") and not line.strip():
            end = position
    return text[:end], text[end:]


def summary(answer: Answer, began: float) -> str:
    """How it came: `42 tokens, 31.0 tokens/s, first after 0.21 s`, and what was mended on the way."""
    count = len(answer.tokens)
    parts = [f"{count} tokens"]
    if len(answer.arrivals) > 1 and answer.arrivals[-1] > answer.arrivals[0]:
        parts.append(f"{(count - 1) / (answer.arrivals[-1] - answer.arrivals[0]):.1f} tokens/s")
    if answer.arrivals:
        parts.append(f"first after {answer.arrivals[0] - began:.2f} s")
    if answer.finish_reason == "length":
        parts.append("cut at max_tokens")
    if answer.recoveries:
        parts.append(f"{answer.recoveries} workers died under it")
    if answer.resumed:
        parts.append(f"went on {answer.resumed} times at another router")
    return ", ".join(parts)
