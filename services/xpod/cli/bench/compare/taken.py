"""One contender's run of one case, and the figures that follow from it.

Knows: which tokens are counted in which time. A figure that a run does not bear out is None.
Does not know: who ran it, or how. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from xpod.cli.bench.compare.cases import Case

FEWEST_A_STREAM = 8
"""Tokens for each stream that a steady window has at least."""
COUNTED_SHARE = 0.95
"""Of a stream's tokens, those whose arrival is known at least; a server that says no ids may hide a few."""

Figures = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Stream:
    """One answer. `counts[i]` tokens came `arrivals[i]` seconds after the case began; `tokens` are all it has."""

    arrivals: tuple[float, ...]
    counts: tuple[int, ...]
    tokens: int


@dataclass(frozen=True, slots=True)
class Window:
    """While all streams decode: from the last first token to the first last one. Seconds since the case began."""

    start: float
    end: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Taken:
    """`seconds` from the first question to the last answer; `how` it was run where there is a choice."""

    case: Case
    seconds: float
    streams: tuple[Stream, ...] = ()
    errors: tuple[str, ...] = ()
    how: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def figures(self) -> Figures:
        """Tokens per second, by figure."""
        names = figure_names(self.case)
        if self.errors:
            return dict.fromkeys(names)
        asked = self.case.output_tokens if self.case.decodes else self.case.prompt_tokens
        whole = self.case.sequences * asked / self.seconds
        return dict(
            zip(names, (steady_rate(self.streams), whole) if self.case.decodes else (whole,), strict=True)
        )

    def as_json(self) -> dict[str, Any]:
        window = steady_window(self.streams)
        return {
            "case": self.case.name,
            "figures": {name: _rounded(value) for name, value in self.figures().items()},
            "seconds": _rounded(self.seconds),
            "window": window and [_rounded(window.start), _rounded(window.end), window.tokens],
            "streams": [[_rounded(s.arrivals[0]), _rounded(s.arrivals[-1]), s.tokens] for s in self.streams],
            "how": self.how,
            "errors": list(self.errors),
            **self.facts,
        }


def figure_names(case: Case) -> tuple[str, ...]:
    return (f"{case.name} steady", f"{case.name} whole") if case.decodes else (case.name,)


def steady_window(streams: Sequence[Stream]) -> Window | None:
    """None where there was no such time. Tokens that came at its very start are not of it."""
    if not streams:
        return None
    start = max(stream.arrivals[0] for stream in streams)
    end = min(stream.arrivals[-1] for stream in streams)
    if end <= start:
        return None
    came = (pair for stream in streams for pair in zip(stream.arrivals, stream.counts, strict=True))
    return Window(start, end, sum(count for at, count in came if start < at <= end))


def steady_rate(streams: Sequence[Stream]) -> float | None:
    """Tokens per second of the steady window, where it has enough of them and all were seen."""
    window = steady_window(streams)
    if window is None or window.tokens < FEWEST_A_STREAM * len(streams):
        return None
    if any(sum(stream.counts) < COUNTED_SHARE * stream.tokens for stream in streams):
        return None
    return window.tokens / (window.end - window.start)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
