"""The lines of a waterfall: what stands in which column, and where bars begin and end.

Knows: trees of spans, and how wide a terminal is. Does not know: colours, or how lines are printed. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xpod.cli.trace.tree import Node, Span

MOST_NAME, LEAST_NAME, MOST_MEMBER, TIME = 34, 10, 13, 9
LEAST_BAR, NARROW_BAR = 16, 8
GAP = 2
LEAST_WITH_MEMBER, LEAST_WITH_START, LEAST_WITH_TELLING = 46, 62, 110
HIDDEN = frozenset({"session", "kind", "recoveries", "whole", "choices", "why"})
"""Attributes that the tree or the heading says already."""


@dataclass(frozen=True, slots=True)
class Glyphs:
    """What trees and bars are made of."""

    branch: str
    last: str
    through: str
    blank: str
    bar: str
    thin: str
    more: str


UNICODE = Glyphs("├─ ", "└─ ", "│  ", "   ", "█", "▏", "…")
NARROW = Glyphs("├ ", "└ ", "│ ", "  ", "█", "▏", "…")
ASCII = Glyphs("|- ", "`- ", "|  ", "   ", "#", "|", "~")


def glyphs_for(width: int, *, unicode: bool) -> Glyphs:
    """What a terminal of so many characters can show."""
    if not unicode:
        return ASCII
    return UNICODE if width >= LEAST_WITH_START else NARROW


@dataclass(frozen=True, slots=True)
class Columns:
    """How many characters each column has; 0: it is left out."""

    name: int
    member: int
    start: int
    took: int
    bar: int
    telling: int


@dataclass(frozen=True, slots=True)
class Line:
    """One span, or several that were folded. `bar` is as wide as its column. `why` says what failed."""

    guide: str
    label: str
    member: str
    start: str
    took: str
    bar: str
    telling: str
    why: str
    node: Node


def columns(width: int, names: Sequence[str], members: Sequence[str]) -> Columns:
    """For a terminal of so many characters, and labels (with their guides) and members as they are."""
    member = min(MOST_MEMBER, max(map(len, members), default=0)) + 1 if width >= LEAST_WITH_MEMBER else 0
    start = TIME if width >= LEAST_WITH_START else 0
    room = width - member - start - TIME - GAP
    least = LEAST_BAR if start else NARROW_BAR
    name = max(LEAST_NAME, min(MOST_NAME, max(map(len, names), default=0) + 1, room - least))
    rest = max(1, room - name)
    telling = rest * 2 // 5 if width >= LEAST_WITH_TELLING else 0
    return Columns(name, member, start, TIME, rest - telling, telling)


def lines(roots: Sequence[Node], now: int, width: int, glyphs: Glyphs) -> tuple[Columns, list[Line]]:
    """The waterfall of these trees; `now` in ns is where what goes on is by now."""
    placed = [(guide, node) for guide, node in _guided(roots, glyphs)]
    nodes = [node for _, node in placed]
    labels, members = [_label(node) for node in nodes], [_member(node) for node in nodes]
    names = [guide + label for (guide, _), label in zip(placed, labels, strict=True)]
    layout = columns(width, names, members)
    begin = min((node.start for node in nodes), default=0)
    end = max((_end(span, now) for node in nodes for span in node.spans), default=begin)
    found = [
        Line(
            guide,
            label,
            member,
            f"+{duration(node.start - begin)}",
            _took(node, now, glyphs),
            bar(
                [(s.start - begin, _end(s, now) - begin) for s in node.spans], end - begin, layout.bar, glyphs
            ),
            _telling(node),
            _why(node),
            node,
        )
        for (guide, node), label, member in zip(placed, labels, members, strict=True)
    ]
    return layout, found


def bar(pieces: Sequence[tuple[int, int]], whole: int, width: int, glyphs: Glyphs) -> str:
    """Pieces of time, from and to, of a `whole`, as that many characters. The shortest is one thin character."""
    cells = [" "] * width
    for start, end in pieces:
        left, right = (min(1.0, at / whole) * width if whole else 0.0 for at in (start, end))
        first = min(int(left), width - 1)
        last = min(max(first + 1, round(right)), width)
        if right - left < 0.5 and cells[first] == " ":
            cells[first] = glyphs.thin
        elif right - left >= 0.5:
            cells[first:last] = glyphs.bar * (last - first)
    return "".join(cells)


def duration(ns: int) -> str:
    """For people: 350 µs, 1.24 ms, 35 ms, 2.31 s, 4 min."""
    if ns < 1_000_000:
        return f"{ns / 1e3:.0f} µs"
    for limit, unit, size in ((10**9, "ms", 1e6), (120 * 10**9, "s", 1e9)):
        if ns < limit:
            value = ns / size
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    return f"{ns / 60e9:.0f} min"


def _guided(roots: Sequence[Node], glyphs: Glyphs) -> Iterator[tuple[str, Node]]:
    for root in roots:
        yield "", root
        yield from _below(root, "", glyphs)


def _below(node: Node, indent: str, glyphs: Glyphs) -> Iterator[tuple[str, Node]]:
    for place, child in enumerate(node.children, 1):
        last = place == len(node.children)
        yield indent + (glyphs.last if last else glyphs.branch), child
        yield from _below(child, indent + (glyphs.blank if last else glyphs.through), glyphs)


def _label(node: Node) -> str:
    count = f" x{len(node.spans)}" if len(node.spans) > 1 else ""
    kind = node.spans[0].attributes.get("kind", "") if not count else ""
    return f"{node.name}{' ' if kind else ''}{kind}{count}"


def _member(node: Node) -> str:
    members = {span.member for span in node.spans}
    kinds = {span.kind for span in node.spans}
    if len(members) == 1:
        return members.pop()
    return f"{len(members)} {kinds.pop()}s" if len(kinds) == 1 else f"{len(members)} members"


def _end(span: Span, now: int) -> int:
    return max(span.start, now) if span.end is None else span.end


def _took(node: Node, now: int, glyphs: Glyphs) -> str:
    """Of folded ones, all together."""
    took = duration(sum(_end(span, now) - span.start for span in node.spans))
    return f"{took}{glyphs.more}" if any(span.end is None for span in node.spans) else took


def _telling(node: Node) -> str:
    if len(node.spans) > 1:
        return ""
    [span] = node.spans
    told = [
        f"{name} {value}"
        for name, value in span.attributes.items()
        if "." not in name and name not in HIDDEN and value != ""
    ]
    return ", ".join(told)


def _why(node: Node) -> str:
    """What failed, or what it was done for."""
    reasons = dict.fromkeys(span.error for span in node.spans if span.error)
    if node.adopted:
        reasons["whoever asked for it is gone, and what it knew of this request"] = None
    return "; ".join(reasons)
