"""A trace put together from what members tell, those that do not answer, and whose it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from router.pod_fakes import POD, FakeMember, seen
from xpod.common.view import PodView
from xpod.router import traces as module
from xpod.router.traces import Traces
from xpod_proto import Message, ReadTrace, SpanRecord, TraceSpans
from xpod_runtime.local_bus import LocalBus, LocalFabric
from xpod_runtime.trace_context import TraceContext
from xpod_runtime.tracing import Tracer

SESSION = "s" + "1" * 24
TRACE, OTHER = "a" * 32, "b" * 32


def record(trace: str, span: str, name: str, start: int, **attributes: str) -> SpanRecord:
    return SpanRecord(trace, span * 16, "", name, start, start + 1, dict(attributes))


class Telling(FakeMember):
    """Answers with these spans, as a member does; None: never."""

    spans: tuple[SpanRecord, ...] | None = ()

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.questions: list[ReadTrace] = []

    async def answer(self, message: Message) -> Message:
        assert isinstance(message, ReadTrace)
        self.questions.append(message)
        if self.spans is None:
            await asyncio.Event().wait()
        assert self.spans is not None
        of_session = {span.trace for span in self.spans if span.attributes.get("session") == message.session}
        wanted = {*message.traces, *(of_session if message.session else ())}
        named = [span for span in self.spans if span.name == message.name]
        found = named if message.name else [span for span in self.spans if span.trace in wanted]
        return TraceSpans(self.name, self.kind, tuple(found))


@asynccontextmanager
async def pod(*kinds: str) -> AsyncIterator[tuple[Traces, Tracer, dict[str, Telling]]]:
    fabric = LocalFabric()
    bus = LocalBus(fabric, "router-0")
    view = PodView(bus, POD)
    await view.start()
    members = {kind: Telling(fabric, kind, f"{kind}-1") for kind in kinds}
    for member in members.values():
        await member.open()
        await seen(view, member.name)
    tracer = Tracer(100)
    yield Traces(bus, view, "router-0", tracer), tracer, members
    await bus.close()


@pytest.mark.parametrize(
    "request_id", [SESSION, f"cmpl-{SESSION}", f"chatcmpl-{SESSION}", f"resp_{SESSION[1:]}", TRACE]
)
async def test_all_that_had_a_part_are_asked_and_nobody_else(request_id: str) -> None:
    async with pod("decode", "expert", "mempool", "supervisor") as (traces, _, members):
        members["decode"].spans = (record(TRACE, "2", "decode", 20, session=SESSION),)
        members["expert"].spans = (record(TRACE, "3", "expert", 30), record(OTHER, "4", "expert", 5))
        found = await traces.find(request_id, "")
        assert found is not None
        assert [(span["name"], span["member"], span["kind"]) for span in found["spans"]] == [
            ("decode", "decode-1", "decode"),
            ("expert", "expert-1", "expert"),
        ]
        assert (found["traces"], found["silent"]) == ([TRACE], [])
        assert members["supervisor"].questions == []


async def test_a_session_with_two_traces_is_shown_with_both() -> None:
    """A client that came back to another router without its `traceparent`."""
    async with pod("router", "expert") as (traces, tracer, members):
        tracer.begin("session", TraceContext(OTHER, "9" * 16, sampled=False), session=SESSION).end()
        members["router"].spans = (record(TRACE, "2", "session", 20, session=SESSION),)
        members["expert"].spans = (record(OTHER, "4", "expert", 5),)
        found = await traces.find(SESSION, "")
        assert found is not None
        assert found["traces"] == [TRACE, OTHER]
        assert {span["member"] for span in found["spans"]} == {"router-0", "router-1", "expert-1"}


async def test_who_is_silent_is_named_and_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.05)
    async with pod("decode", "prefill") as (traces, _, members):
        members["prefill"].spans = (record(TRACE, "2", "prefill", 20, session=SESSION),)
        members["decode"].spans = None
        found = await traces.find(SESSION, "")
        assert found is not None
        assert found["silent"] == ["decode-1"]
        assert len(found["spans"]) == 1
        assert {question.traces for question in members["decode"].questions} == {()}


@pytest.mark.parametrize(
    "request_id", ["s2", "cmpl-", "../status", "A" * 32, "*", SESSION + "\n", "x" * 5000]
)
async def test_what_names_no_request_is_not_asked_for(request_id: str) -> None:
    async with pod("decode") as (traces, _, members):
        assert await traces.find(request_id, "") is None
        assert members["decode"].questions == []


async def test_a_request_that_nobody_remembers() -> None:
    async with pod("decode") as (traces, _, _):
        assert await traces.find(SESSION, "") is None
        assert await traces.find(TRACE, "") is None


@pytest.mark.parametrize(
    ("tenant", "owners", "visible"),
    [
        ("", ("one",), True),
        ("one", ("one",), True),
        ("two", ("one",), False),
        ("one", ("one", "two"), False),
        ("one", (), False),
        ("one", ("",), False),
    ],
)
async def test_tenants_see_their_own_only(tenant: str, owners: tuple[str, ...], visible: bool) -> None:
    async with pod("router") as (traces, _, members):
        members["router"].spans = (
            record(TRACE, "2", "session", 20, session=SESSION),
            *(record(TRACE, str(3 + n), "request", 10, tenant=owner) for n, owner in enumerate(owners)),
        )
        found = await traces.find(SESSION, tenant)
        assert (found is not None) is visible
        if found is not None:
            assert all("tenant" not in span["attributes"] for span in found["spans"])
        mine = [owner for owner in owners if not tenant or owner == tenant]
        assert len(await traces.newest(10, tenant)) == len(mine)


async def test_the_newest_of_all_routers() -> None:
    async with pod("router") as (traces, tracer, members):
        for start in (10, 30):
            tracer.note("request", TraceContext(TRACE, "9" * 16, sampled=False), start, start + 1)
        members["router"].spans = (record(OTHER, "2", "request", 20), record(OTHER, "3", "request", 5))
        found = await traces.newest(3, "")
        assert [(span["start_ns"], span["member"]) for span in found] == [
            (30, "router-0"),
            (20, "router-1"),
            (10, "router-0"),
        ]
