"""`xpod trace`: trees from spans, lines from trees, and what a user sees of them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from rich.console import Console

from cli.conftest import Command
from xpod.cli import client
from xpod.cli.trace.lines import ASCII, NARROW, UNICODE, bar, columns, duration, glyphs_for, lines
from xpod.cli.trace.tree import Node, Span, fold, grow
from xpod.cli.trace.waterfall import draw

MS = 1_000_000
URL = ("--url", "http://router:1")
Json = dict[str, Any]


def told(name: str, start: int, end: int | None, parent: str = "", **more: Any) -> Json:
    """A span from `start` to `end` in ms, as a router tells it; its id is its name unless `id` is another."""
    return {
        "trace": more.get("trace", "t"),
        "span": more.get("id", name),
        "parent": parent or None,
        "name": name,
        "member": more.get("member", "router-0"),
        "kind": more.get("member", "router-0").rpartition("-")[0],
        "start_ns": start * MS,
        "end_ns": None if end is None else end * MS,
        "error": more.get("error"),
        "sampled": more.get("sampled", True),
        "attributes": more.get("attributes", {}),
    }


REQUEST = told(
    "request",
    0,
    1000,
    "of the client",
    attributes={
        "gen_ai.response.id": "cmpl-s1",
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.server.time_to_first_token": 0.05,
        "gen_ai.response.finish_reasons": "length",
        "recoveries": 1,
    },
)
LOST = [
    REQUEST,
    told("session", 10, 1000, "request"),
    told("attempt", 100, 500, "session", error="decode-0 is down", attributes={"kind": "decode", "epoch": 1}),
    told("expert", 200, 210, "gone", member="expert-0", id="e1"),
    told("recovery", 500, 600, "session"),
    told("attempt", 510, 1000, "session", id="a2", attributes={"kind": "decode", "epoch": 2}),
    told("decode", 520, 1000, "a2", member="decode-1"),
    *(told("step", 600 + 10 * n, 605 + 10 * n, "decode", id=f"st{n}", member="decode-1") for n in range(8)),
    *(told("hop", 600 + n, 601 + n, "st0", id=f"h{n}", member="decode-1") for n in range(2)),
    *(told("expert", 600 + n, 601 + n, f"h{n}", id=f"x{n}", member=f"expert-{n}") for n in range(2)),
]
ANSWER = {"request": "s1", "traces": ["t"], "now_ns": 1000 * MS, "silent": [], "spans": LOST}


def spans(*given: Json) -> list[Span]:
    return [Span.of(each) for each in given]


def shape(nodes: list[Node]) -> list[Any]:
    """Names, with their children; how many where they were folded."""
    return [
        (node.name if len(node.spans) == 1 else f"{node.name} x{len(node.spans)}", shape(node.children))
        for node in nodes
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        ([told("request", 0, 9)], [("request", [])]),
        ([told("b", 2, 3, "request"), told("request", 0, 9)], [("request", [("b", [])])]),
        (
            [told("request", 0, 9), told("b", 3, 4, "request"), told("a", 1, 2, "request")],
            [("request", [("a", []), ("b", [])])],
        ),
        # the client's span is not known; a router that took over has a second root
        ([told("request", 0, 9, "client"), told("request", 5, 9, "client", id="2")], [("request", [])] * 2),
        # what nobody can be the parent of
        ([told("hop", 50, 60, "gone"), told("request", 0, 9)], [("request", []), ("hop", [])]),
        ([told("hop", 5, 6, "gone", trace="other"), told("request", 0, 9)], [("request", []), ("hop", [])]),
    ],
)
def test_trees(given: list[Json], expected: list[Any]) -> None:
    assert shape(grow(spans(*given))) == expected


def test_what_lost_its_parent_is_put_under_the_attempt_that_went_on_then() -> None:
    [root] = grow(spans(*LOST))
    [session] = root.children
    first, recovery, second = session.children
    assert [node.name for node in session.children] == ["attempt", "recovery", "attempt"]
    assert ([child.name for child in first.children], first.children[0].adopted) == (["expert"], True)
    assert recovery.children == []
    assert [child.name for child in second.children] == ["decode"]


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(2, 2, [("a", []), ("a", []), ("b", [])]), (3, 2, [("a x3", []), ("b", [])])],
)
def test_many_of_a_name_become_one(count: int, most: int, expected: list[Any]) -> None:
    nodes = grow(spans(*(told("a", n, n + 1, id=f"a{n}") for n in range(count)), told("b", 90, 91)))
    assert shape(fold(nodes, most)) == expected


def test_children_of_many_are_put_together() -> None:
    nodes = grow(
        spans(
            *(told("hop", n, n + 1, id=f"h{n}") for n in range(3)),
            *(told("expert", n, n + 1, f"h{n}", id=f"e{n}") for n in range(3)),
        )
    )
    assert shape(fold(nodes, 1)) == [("hop x3", [("expert x3", [])])]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([(0, 100)], "██████████"),
        ([(50, 100)], "     █████"),
        ([(0, 20), (80, 100)], "██      ██"),
        ([(99, 100)], "         ▏"),
        ([(100, 100)], "         ▏"),
        ([(0, 0)], "▏         "),
        ([(0, 100), (50, 50)], "██████████"),
        ([(40, 60)], "    ██    "),
    ],
)
def test_bars(pieces: list[tuple[int, int]], expected: str) -> None:
    assert bar(pieces, 100, 10, UNICODE) == expected


def test_a_bar_of_no_time_at_all() -> None:
    assert bar([(0, 0)], 0, 3, ASCII) == "|  "


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 µs"),
        (1_500, "2 µs"),
        (999_000, "999 µs"),
        (1_234_000, "1.23 ms"),
        (35 * MS, "35 ms"),
        (350 * MS, "350 ms"),
        (2_310 * MS, "2.31 s"),
        (119_000 * MS, "119 s"),
        (240_000 * MS, "4 min"),
    ],
)
def test_durations(ns: int, text: str) -> None:
    assert duration(ns) == text


@pytest.mark.parametrize("width", [20, 40, 46, 60, 62, 80, 109, 110, 140, 250])
def test_columns_fit_the_terminal(width: int) -> None:
    found = columns(width, ["x" * 40], ["mempool-0"])
    whole = found.name + found.member + found.start + found.took + found.bar + found.telling + 2
    assert whole <= max(width, 22)
    assert found.bar >= 1
    assert (found.member > 0, found.start > 0, found.telling > 0) == (width >= 46, width >= 62, width >= 110)


def test_what_goes_on_ends_now() -> None:
    _, [line] = lines(grow(spans(told("request", 0, None))), 500 * MS, 80, UNICODE)
    assert line.took == "500 ms…"
    assert line.bar.strip() == "█" * len(line.bar)


@pytest.mark.parametrize(
    ("width", "unicode", "expected"), [(80, True, UNICODE), (50, True, NARROW), (80, False, ASCII)]
)
def test_glyphs(width: int, unicode: bool, expected: object) -> None:
    assert glyphs_for(width, unicode=unicode) is expected


def drawn(width: int, *, terminal: bool = False, everything: bool = False, **more: Any) -> list[str]:
    output = io.StringIO()
    draw(Console(file=output, width=width, force_terminal=terminal), ANSWER | more, everything=everything)
    return output.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 140])
def test_a_killed_worker_is_seen_in_any_terminal(width: int) -> None:
    shown = drawn(width)
    text = "\n".join(shown)
    assert max(map(len, shown)) <= width
    assert "\x1b" not in text, "no colour where nobody sees it"
    for word in ("request", "attempt", "decode-0 is down", "recovery", "step x8", "█"):
        assert word in text
    assert ("epoch 2" in text) is (width >= 110)


def test_recoveries_and_failures_have_colours() -> None:
    shown = drawn(80, terminal=True)
    [recovery] = [line for line in shown if "recovery " in line and "─" in line]
    [failure] = [line for line in shown if "decode-0 is down" in line]
    assert "\x1b[33m" in recovery
    assert "\x1b[1;31m" in failure


def test_each_span_may_have_its_line() -> None:
    few, all_of_it = drawn(120), drawn(120, everything=True)
    assert sum("step" in line for line in few) == 1
    assert sum("step" in line for line in all_of_it) == 8
    assert sum("expert" in line for line in all_of_it) == 3


def test_who_did_not_answer_is_named() -> None:
    assert any("no answer from decode-1" in line for line in drawn(120, silent=["decode-1"]))


def test_a_request_without_details_says_so() -> None:
    coarse = [each | {"sampled": False} for each in LOST]
    assert any("XPOD_TRACE" in line for line in drawn(120, spans=coarse))
    assert not any("XPOD_TRACE" in line for line in drawn(120))


Routers = Callable[[Callable[[httpx.Request], httpx.Response]], list[str]]


@pytest.fixture
def routers(monkeypatch: pytest.MonkeyPatch) -> Routers:
    """Lets a function stand for every router; the list fills with the paths that are asked for."""

    def stand_in(answer: Callable[[httpx.Request], httpx.Response]) -> list[str]:
        asked: list[str] = []

        def handle(request: httpx.Request) -> httpx.Response:
            asked.append(request.url.raw_path.decode())
            return answer(request)

        made = httpx.Client
        monkeypatch.setattr(
            client.httpx,
            "Client",
            lambda **options: made(**(options | {"transport": httpx.MockTransport(handle)})),
        )
        return asked

    return stand_in


def test_one_request(command: Command, routers: Routers) -> None:
    asked = routers(lambda _: httpx.Response(200, json=ANSWER))
    shown = command("trace", "cmpl-s1/../x", *URL)
    assert (shown.returncode, asked) == (0, ["/xpod/trace/cmpl-s1%2F..%2Fx"])
    assert shown.stdout.startswith("cmpl-s1: 1 s, ttft 50 ms, 20 tokens, 1 recovery\n")
    as_json = command("trace", "s1", "--json", *URL)
    assert json.loads(as_json.stdout) == ANSWER


def test_the_newest_requests(command: Command, routers: Routers) -> None:
    running = REQUEST | {"end_ns": None, "attributes": {"session": "s2"}}
    asked = routers(lambda _: httpx.Response(200, json={"requests": [running, REQUEST]}))
    shown = command("trace", "--last", "7", *URL)
    assert asked == ["/xpod/traces?most=7"]
    head, first, second = shown.stdout.splitlines()
    assert head.split() == ["request", "ago", "took", "ttft", "tokens", "end", "recoveries"]
    assert "goes on" in first
    assert second.split()[0] == "cmpl-s1"
    assert "50 ms" in second


def test_a_request_that_nobody_remembers(command: Command, routers: Routers) -> None:
    routers(lambda _: httpx.Response(404, json={"error": {"message": "no member remembers it"}}))
    shown = command("trace", "s1", *URL)
    assert (shown.returncode, shown.stderr) == (4, "xpod: no member remembers it\n")


def test_no_request_yet(command: Command, routers: Routers) -> None:
    routers(lambda _: httpx.Response(200, json={"requests": []}))
    assert command("trace", *URL).stderr == "no request yet\n"
