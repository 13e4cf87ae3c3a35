"""One trace a request, through every service of a pod; and what faults leave in it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pod.harness import LIMIT, Pod, Shape, running_pod, worker
from xpod_runtime import span_names as names
from xpod_runtime.fault_plan import Fault, FaultPlan, Rule
from xpod_runtime.local_bus import LocalFabric
from xpod_runtime.trace_context import HEADER, TraceContext, new_span, new_trace

ROOT = Path(__file__).parents[2]
PROMPT = "x" * 64
Json = dict[str, Any]


def traced(*, sampled: bool = True) -> TraceContext:
    return TraceContext(new_trace(), new_span(), sampled)


async def ask(pod: Pod, context: TraceContext, max_tokens: int = 8, index: int = 0, **more: Any) -> Json:
    """A completion's whole answer."""
    body = {"prompt": PROMPT, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True, **more}
    headers = {HEADER: context.header, **({"idempotency-key": "k"} if index else {})}
    async with httpx.AsyncClient(base_url=pod.url(index), timeout=LIMIT) as http:
        answer = await http.post("/v1/completions", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert TraceContext.parse(answer.headers[HEADER])[::2] == context[::2]  # type: ignore[index]
    found: Json = answer.json()
    return found


async def told(pod: Pod, request: str, index: int = 0, *, until: str = names.REQUEST) -> list[Json]:
    """The spans of a request, once the one of that name has ended."""
    async with httpx.AsyncClient(base_url=pod.url(index), timeout=LIMIT) as http, asyncio.timeout(LIMIT):
        while True:
            answer = await http.get(f"/xpod/trace/{request}")
            if answer.status_code == 200:
                found: Json = answer.json()
                assert found["silent"] == []
                if any(span["name"] == until and span["end_ns"] for span in found["spans"]):
                    return list(found["spans"])


def named(spans: list[Json], name: str) -> list[Json]:
    return [span for span in spans if span["name"] == name]


def path(spans: list[Json], span: Json) -> list[str]:
    """Names from the first span down to this one."""
    known = {each["span"]: each for each in spans}
    parent = known.get(span["parent"])
    return [*(path(spans, parent) if parent else []), span["name"]]


@pytest.fixture
async def pod(nats: str, oracle_dirs: dict[str, Path]) -> AsyncIterator[Pod]:
    async with running_pod(nats, oracle_dirs["plain"], Shape(decode=2, expert=2), trace_steps=4) as running:
        yield running


async def test_every_service_tells_its_part(pod: Pod) -> None:
    context = traced()
    answer = await ask(pod, context)
    spans = await told(pod, answer["id"])
    assert {span["trace"] for span in spans} == {context.trace}
    paths = {(span["kind"], "/".join(path(spans, span))) for span in spans}
    session = "request/session"
    assert paths >= {
        ("router", "request"),
        ("router", "request/prepare"),
        ("router", f"{session}/admission"),
        ("router", f"{session}/place"),
        ("router", f"{session}/attempt"),
        ("prefill", f"{session}/attempt/prefill/queue"),
        ("prefill", f"{session}/attempt/prefill/transfer"),
        ("mempool", f"{session}/attempt/prefill/transfer/pool.fetch"),
        ("prefill", f"{session}/attempt/prefill/chunk/hop"),
        ("expert", f"{session}/attempt/prefill/chunk/hop/expert"),
        ("prefill", f"{session}/attempt/prefill/store"),
        ("decode", f"{session}/attempt/decode/transfer"),
        ("mempool", f"{session}/attempt/decode/transfer/pool.fetch"),
        ("decode", f"{session}/attempt/decode/step/hop"),
        ("expert", f"{session}/attempt/decode/step/hop/expert"),
    }
    assert named(spans, names.POOL_STORE)
    assert all(span["end_ns"] >= span["start_ns"] for span in spans)
    assert [span["error"] for span in spans if span["error"]] == []


async def test_blocks_that_leave_layer_by_layer_are_told(nats: str, oracle_dirs: dict[str, Path]) -> None:
    async with running_pod(nats, oracle_dirs["plain"], layerwise=True) as pod:
        answer = await ask(pod, traced())
        spans = await told(pod, answer["id"])
    parts = [span for span in spans if span["name"] in (names.POOL_ALLOC, names.POOL_FILL, names.POOL_INSERT)]
    assert [span["name"] for span in parts] == [names.POOL_ALLOC, names.POOL_FILL, names.POOL_INSERT]
    assert {path(spans, span)[-2] for span in parts} == {"prefill"}


async def test_it_is_found_by_any_of_its_names(pod: Pod) -> None:
    context = traced()
    answer = await ask(pod, context)
    by_id = await told(pod, answer["id"])
    for name in (answer["xpod"]["session"], context.trace):
        assert {span["span"] for span in await told(pod, name)} == {span["span"] for span in by_id}
    async with httpx.AsyncClient(base_url=pod.url()) as http:
        newest = (await http.get("/xpod/traces")).json()["requests"]
    assert [span["attributes"]["gen_ai.response.id"] for span in newest] == [answer["id"]]


async def test_steps_are_looked_into_now_and_then(pod: Pod) -> None:
    answer = await ask(pod, traced(), max_tokens=10)
    spans = await told(pod, answer["id"])
    steps = named(spans, names.STEP)
    assert [span["attributes"]["position"] for span in steps] == [64, 68, 72]
    hops = [span for span in named(spans, names.HOP) if span["parent"] in {step["span"] for step in steps}]
    layers = sorted(span["attributes"]["layer"] for span in hops)
    assert layers == sorted([*set(layers)] * 3)


async def test_one_that_is_not_sampled_has_no_steps_and_hops(pod: Pod) -> None:
    answer = await ask(pod, TraceContext("f" * 32, "1" * 16, sampled=False))
    spans = await told(pod, answer["id"])
    assert {span["name"] for span in spans} >= {
        "request",
        "admission",
        "prefill",
        "chunk",
        "decode",
        "transfer",
    }
    assert not {span["name"] for span in spans} & {names.STEP, names.HOP, names.EXPERT}


async def test_a_crash_is_seen_with_the_attempt_that_came_after(pod: Pod) -> None:
    context = traced()
    body = {"prompt": PROMPT, "max_tokens": 400, "temperature": 0, "ignore_eos": True, "stream": True}
    async with (
        httpx.AsyncClient(base_url=pod.url(), timeout=LIMIT) as http,
        http.stream("POST", "/v1/completions", json=body, headers={HEADER: context.header}) as answer,
    ):
        events = answer.aiter_lines()
        for _ in range(10):
            await anext(events)
        [victim] = [name for name in ("decode-0", "decode-1") if worker(pod, name).engine.sequences]
        await pod.crash(victim)
        assert [line async for line in events if line][-1] == "data: [DONE]"
    spans = await told(pod, context.trace)
    lost, kept = (s for s in named(spans, names.ATTEMPT) if s["attributes"]["kind"] == "decode")
    assert (lost["attributes"]["worker"], victim in lost["error"]) == (victim, True)
    assert (kept["error"], kept["attributes"]["worker"] == victim) == (None, False)
    [recovery] = named(spans, names.RECOVERY)
    assert lost["end_ns"] <= recovery["start_ns"] <= kept["start_ns"] < recovery["end_ns"]
    [decode] = named(spans, names.DECODE)
    assert decode["parent"] == kept["span"]
    assert [span["attributes"]["recoveries"] for span in named(spans, names.REQUEST)] == [1]


async def test_an_expert_call_that_was_made_again_is_told_whoever_is_traced(
    oracle_dirs: dict[str, Path],
) -> None:
    fabric = LocalFabric()
    async with running_pod(fabric, oracle_dirs["plain"], Shape(expert=2), trace=0.0) as pod:
        fabric.plan = FaultPlan([Rule(Fault.DROP, "test.v1.expert.*.calls", limit=1)])
        answer = await ask(pod, traced(sampled=False))
        spans = await told(pod, answer["id"])
    faults = [*named(spans, names.REDISPATCH), *named(spans, names.HEDGE)]
    assert [path(spans, span)[-2] for span in faults] == ["prefill"]
    [fault] = faults
    assert fault["attributes"]["shard"] in ("expert-0", "expert-1")
    assert (fault["error"] in ("late", "no answer"), fault["end_ns"] > fault["start_ns"]) == (True, True)
    assert named(spans, names.HOP) == []


async def test_a_router_that_recalls_a_session_says_so(nats: str, oracle_dirs: dict[str, Path]) -> None:
    async with running_pod(nats, oracle_dirs["plain"], Shape(router=2)) as pod:
        context = traced()
        answer = await ask(pod, context, index=1)
        spans = await told(pod, answer["id"], 1)
    [find], [recall] = named(spans, names.FIND), named(spans, names.RECALL)
    assert (path(spans, recall), recall["attributes"]["known"]) == (["request", "find", "recall"], False)
    assert find["attributes"]["session"] == answer["xpod"]["session"]


def test_the_documentation_tells_of_every_span_and_no_other() -> None:
    text = (ROOT / "docs" / "tracing.md").read_text()
    documented = {
        name
        for line in text.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([a-z.]+)`", line.split("|")[1])
    }
    assert documented == names.all_names()


def test_every_name_is_used_somewhere() -> None:
    sources = [*(ROOT / "services").rglob("*.py"), *(ROOT / "shared").rglob("*.py")]
    code = "\n".join(each.read_text() for each in sources if each.name not in {"span_names.py", "otlp.py"})
    constants = [name for name in vars(names) if name.isupper() and isinstance(getattr(names, name), str)]
    assert len(constants) == len(names.all_names())
    assert [name for name in constants if f"names.{name}" not in code] == []
