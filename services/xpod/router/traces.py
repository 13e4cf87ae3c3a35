"""A request's trace, collected from the members that had a part in it.

Knows: whom to ask, and whose requests these are. Does not know: how a trace is shown.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import structlog

from xpod.common.view import PodView
from xpod_proto import Message, ReadTrace, SpanRecord, TraceSpans
from xpod_runtime import span_names as names
from xpod_runtime.bus import Bus
from xpod_runtime.errors import XpodError
from xpod_runtime.tracing import PRIVATE, Tracer, now_ns

log = structlog.get_logger(__name__)
ANSWER_SECONDS = 1.0
MOST_REQUESTS = 1000
KNOW_SESSIONS = ("router", "prefill", "decode")
ALL_KINDS = (*KNOW_SESSIONS, "expert", "mempool")
_TRACE = re.compile(r"[0-9a-f]{32}")
_SESSION = re.compile(r"(?:[a-z]+-)?(s[0-9a-f]{24}(?:x\d+)?)|resp_([0-9a-f]{24})")
"""Completions have their session's name behind a word; responses, behind another, without its s."""
Json = dict[str, Any]


class Traces:
    """Asks the pod that `view` shows, and `tracer`, which is this router's own."""

    def __init__(self, bus: Bus, view: PodView, router: str, tracer: Tracer) -> None:
        self._bus, self._view, self._router, self._tracer = bus, view, router, tracer

    async def find(self, request: str, tenant: str) -> Json | None:
        """All that is known of a request: its answer's id, its session or its trace; None: nothing, or not for them.

        Times are Unix time in ns, each on its member's clock.
        """
        told = _Told()
        if _TRACE.fullmatch(request):
            traces: tuple[str, ...] = (request,)
        else:
            found = _SESSION.fullmatch(request)
            if found is None:
                return None
            session = found[1] or f"s{found[2]}"
            await self._ask_all(KNOW_SESSIONS, ReadTrace(self._router, session=session), told)
            traces = tuple({span["trace"] for span in told.spans.values()})
        if traces:
            await self._ask_all(ALL_KINDS, ReadTrace(self._router, traces), told)
        if not told.spans or not told.visible(tenant):
            return None
        return {
            "request": request,
            "traces": sorted(traces),
            "now_ns": now_ns(),
            "silent": sorted(told.silent),
            "spans": told.sorted(),
        }

    async def newest(self, most: int, tenant: str) -> list[Json]:
        """The first spans of the newest requests of all routers, the newest first."""
        told = _Told()
        asked = most if not tenant else MOST_REQUESTS  # others' are among them
        await self._ask_all(("router",), ReadTrace(self._router, name=names.REQUEST, most=asked), told)
        spans = [span for span in told.sorted() if not tenant or told.owners[span["span"]] == tenant]
        return spans[::-1][:most]

    async def _ask_all(self, kinds: Sequence[str], question: ReadTrace, told: _Told) -> None:
        members = [
            (member.kind, member.name)
            for kind in kinds
            for member in self._view.table.of_kind(kind)
            if member.alive and member.name != self._router and member.name not in told.silent
        ]
        if "router" in kinds:
            told.take(self._own(question))
        answers = await asyncio.gather(*(self._ask(kind, name, question) for kind, name in members))
        for (_, name), answer in zip(members, answers, strict=True):
            if isinstance(answer, TraceSpans):
                told.take(answer)
            else:
                told.silent.add(name)

    def _own(self, question: ReadTrace) -> TraceSpans:
        return TraceSpans(self._router, "router", tuple(self._tracer.answer(question)))

    async def _ask(self, kind: str, name: str, question: ReadTrace) -> Message | None:
        try:
            return await self._view.request(self._bus, kind, name, question, timeout=ANSWER_SECONDS)
        except XpodError as error:
            log.warning("no spans", member=name, code=error.code, error=str(error))
            return None


class _Told:
    """What was told so far, each span once."""

    def __init__(self) -> None:
        self.spans: dict[str, Json] = {}
        self.owners: dict[str, str] = {}
        self.silent: set[str] = set()

    def take(self, answer: TraceSpans) -> None:
        for span in answer.spans:
            self.spans[span.span] = _described(span, answer)
            if span.name == names.REQUEST:
                self.owners[span.span] = str(span.attributes.get(PRIVATE, ""))

    def visible(self, tenant: str) -> bool:
        """May they see it? Where tenants are told apart, all of it has to be theirs."""
        return not tenant or set(self.owners.values()) == {tenant}

    def sorted(self) -> list[Json]:
        return sorted(self.spans.values(), key=lambda span: (span["start_ns"], span["span"]))


def _described(span: SpanRecord, of: TraceSpans) -> Json:
    """`end_ns` is null while it goes on."""
    return {
        "trace": span.trace,
        "span": span.span,
        "parent": span.parent or None,
        "name": span.name,
        "member": of.member,
        "kind": of.kind,
        "start_ns": span.start,
        "end_ns": span.end or None,
        "error": span.error or None,
        "sampled": span.sampled,
        "attributes": {name: value for name, value in span.attributes.items() if name != PRIVATE},
    }
