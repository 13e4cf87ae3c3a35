"""A trace in a terminal.

Knows: rich, and what is worth a colour. Does not know: where lines begin and end (see `lines`).
"""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from xpod.cli.trace.lines import Columns, Line, duration, glyphs_for, lines
from xpod.cli.trace.tree import Json, Node, Span, fold, grow
from xpod_runtime.span_names import RECOVERIES

FOLDED = 6
"""So many siblings of one name are shown one by one; more of them, together."""
TOGETHER = frozenset({"hop", "expert"})
"""Those that are always shown together."""
STYLES = {
    "router": "cyan",
    "prefill": "blue",
    "decode": "green",
    "expert": "magenta",
    "mempool": "bright_black",
}
FAILED, RECOVERED = "bold red", "yellow"
COARSE = "without steps and hops: it was not one of the requests that XPOD_TRACE chooses"


def draw(console: Console, answer: Json, *, everything: bool = False) -> None:
    """Prints what a router tells of a request; with `everything`, each span has a line of its own."""
    spans = [Span.of(told) for told in answer["spans"]]
    roots = grow(spans)
    shown = roots if everything else folded(roots)
    unicode = console.encoding.lower().startswith("utf")
    glyphs = glyphs_for(console.width, unicode=unicode)
    layout, found = lines(shown, int(answer["now_ns"]), console.width, glyphs)
    for line in heading(answer, spans):
        console.print(Text(line))
    for one in found:
        _print(console, _text(one, layout))
        if one.why:
            indent = " " * (len(one.guide) + 2)
            _print(console, Text(f"{indent}{one.why}", _style(one.node)))


def folded(roots: list[Node]) -> list[Node]:
    """What is many becomes one; hops, and what is asked for by them, even where they are few."""
    return [_together(root) for root in fold(roots, FOLDED)]


def _together(node: Node) -> Node:
    few = [_together(child) for child in node.children if child.name not in TOGETHER]
    many = fold([child for child in node.children if child.name in TOGETHER], 1)
    children = sorted([*few, *many], key=lambda child: child.start)
    return Node(node.spans, children, node.adopted)


def heading(answer: Json, spans: list[Span]) -> list[str]:
    """What was asked for, in a line or two."""
    told = [
        line
        for span in spans
        if span.name == "request"
        for line in (request_line(span), f"trace {span.trace}")
    ]
    silent = answer.get("silent") or []
    missing = [f"no answer from {', '.join(silent)}: what they did is not shown"] if silent else []
    coarse = [] if any(span.sampled for span in spans) else [COARSE]
    return [*told, *coarse, *missing]


def request_line(span: Span) -> str:
    """A request: how long, how many tokens."""
    told = span.attributes
    first = told.get("gen_ai.server.time_to_first_token")
    recoveries = told.get("recoveries", 0)
    parts = [
        "goes on" if span.end is None else duration(span.end - span.start),
        f"ttft {duration(round(first * 1e9))}" if first is not None else "",
        f"{told.get('gen_ai.usage.output_tokens', '')} tokens" if span.end is not None else "",
        f"{recoveries} {'recovery' if recoveries == 1 else 'recoveries'}" if recoveries else "",
    ]
    name = told.get("gen_ai.response.id") or told.get("session", "")
    return f"{name}: {', '.join(part for part in parts if part)}"


def _style(node: Node) -> str:
    if node.name in RECOVERIES or node.adopted:
        return RECOVERED
    return FAILED if any(span.error for span in node.spans) else STYLES.get(node.spans[0].kind, "")


def _text(line: Line, layout: Columns) -> Text:
    style = _style(line.node)
    text = Text()
    text.append(line.guide[: layout.name], "bright_black")
    text.append(
        _fit(line.label, layout.name - len(line.guide)), style if style in {FAILED, RECOVERED} else ""
    )
    text.append(_fit(line.member, layout.member), "bright_black")
    if layout.start:
        text.append(line.start.rjust(layout.start), "bright_black")
    text.append(line.took.rjust(layout.took))
    text.append("  " + line.bar, style)
    if layout.telling:
        text.append((" " + line.telling)[: layout.telling], "bright_black")
    text.rstrip()
    return text


def _fit(text: str, width: int) -> str:
    return text[: max(0, width - 1)].ljust(max(0, width))


def _print(console: Console, text: Text) -> None:
    console.print(text, no_wrap=True, overflow="ellipsis", crop=True, highlight=False)
