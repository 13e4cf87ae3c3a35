"""A trace as a tree: which span is part of which.

Knows: spans as routers tell them; that some are missing, because who had them died. Does not know: how a tree looks.
Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

Json = dict[str, Any]
ADOPTERS = ("attempt", "session", "request")
"""Router's spans that a span without its parent is put under, the closest first."""


@dataclass(frozen=True, slots=True)
class Span:
    """Times in ns; `end` None: it goes on."""

    trace: str
    id: str
    parent: str
    name: str
    member: str
    kind: str
    start: int
    end: int | None
    error: str
    attributes: Json
    sampled: bool = False
    """Is its trace one of those that are told in detail?"""

    @classmethod
    def of(cls, told: Json) -> Span:
        """From the object of a router's answer."""
        return cls(
            told["trace"],
            told["span"],
            told.get("parent") or "",
            told["name"],
            told["member"],
            told["kind"],
            int(told["start_ns"]),
            None if told.get("end_ns") is None else max(int(told["end_ns"]), int(told["start_ns"])),
            told.get("error") or "",
            told.get("attributes") or {},
            bool(told.get("sampled")),
        )


@dataclass(slots=True)
class Node:
    """One span, or several of one name that stand together, and what is part of them."""

    spans: tuple[Span, ...]
    children: list[Node] = field(default_factory=list)
    adopted: bool = False
    """Whoever it was part of is not known any more."""

    @property
    def name(self) -> str:
        return self.spans[0].name

    @property
    def start(self) -> int:
        return min(span.start for span in self.spans)

    def walk(self) -> Iterator[Node]:
        """It, and all below."""
        yield self
        for child in self.children:
            yield from child.walk()


def grow(spans: Iterable[Span]) -> list[Node]:
    """The roots, in order of time, as all children are. What lost its parent is part of what its router did then."""
    nodes = {span.id: Node((span,)) for span in sorted(spans, key=attrgetter("start"))}
    routers: defaultdict[str, list[Node]] = defaultdict(list)
    for node in nodes.values():
        if node.name in ADOPTERS:
            routers[node.spans[0].trace].append(node)
    roots = []
    for node in nodes.values():
        [span] = node.spans
        parent = nodes.get(span.parent)
        if parent is None and span.parent and span.name != ADOPTERS[-1]:
            parent = _adopter(span, routers[span.trace])
            node.adopted = parent is not None
        if parent is None or parent is node:
            roots.append(node)
        else:
            parent.children.append(node)
    return [root for root in roots if root.name == ADOPTERS[-1]] + [
        root for root in roots if root.name != ADOPTERS[-1]
    ]


def _adopter(orphan: Span, routers: Sequence[Node]) -> Node | None:
    def under_way(node: Node) -> bool:
        [span] = node.spans
        return span.start <= orphan.start and (span.end is None or orphan.start <= span.end)

    there = [node for node in routers if under_way(node) and node.spans[0].id != orphan.id]
    return min(there, key=lambda node: (ADOPTERS.index(node.name), -node.start), default=None)


def fold(nodes: Sequence[Node], most: int) -> list[Node]:
    """Where more than `most` siblings have one name, they become one node."""
    groups: dict[tuple[str, bool], list[Node]] = {}
    for node in nodes:
        groups.setdefault((node.name, node.adopted), []).append(node)
    folded = []
    for (_, adopted), group in groups.items():
        if len(group) <= most:
            folded += [Node(node.spans, fold(node.children, most), adopted) for node in group]
        else:
            spans = tuple(span for node in group for span in node.spans)
            children = [child for node in group for child in node.children]
            folded.append(Node(spans, fold(children, most), adopted))
    return sorted(folded, key=attrgetter("start"))
