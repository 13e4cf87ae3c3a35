"""Responses in a pod whose routers die: asked for at another one, and not asked for at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pod.harness import LIMIT, Pod, Shape, running_pod, until_empty, worker
from xpod.router.router import Router
from xpod_proto import ResponseEnd
from xpod_runtime.local_bus import LocalFabric
from xpod_runtime.store import Store

ROUTERS = Shape(decode=2, router=2)
BODY: dict[str, Any] = {
    "input": "tell me",
    "background": True,
    "seed": 9,
    "max_output_tokens": 150,
    "ignore_eos": True,
    "return_token_ids": True,
    "include": ["message.output_text.logprobs"],
    "top_logprobs": 1,
}


async def ask(
    pod: Pod, method: str, path: str = "", body: dict[str, Any] | None = None, router: int = 0
) -> Any:
    url = f"{pod.url(router)}/v1/responses{path}"
    async with httpx.AsyncClient(timeout=LIMIT) as client:
        answer = await client.request(method, url, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def events(pod: Pod, id: str, after: int = -1, router: int = 0) -> AsyncIterator[dict[str, Any]]:
    query = "?stream=true" + (f"&starting_after={after}" if after >= 0 else "")
    url = f"{pod.url(router)}/v1/responses/{id}{query}"
    async with httpx.AsyncClient(timeout=LIMIT) as client, client.stream("GET", url) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


async def begin(pod: Pod, **more: object) -> tuple[str, list[dict[str, Any]]]:
    """A response that has said something, and what."""
    id = (await ask(pod, "POST", body=BODY | more))["id"]
    told = []
    async for event in events(pod, id):
        told.append(event)
        if len(told) == 40:
            break
    return id, told


def tokens(told: list[dict[str, Any]]) -> list[int]:
    return [token for event in told for token in event.get("token_ids", [])]


def store_of(pod: Pod) -> Store:
    return pod.router.data.store("test-responses", lifetime=3600.0)


async def crash_router(pod: Pod) -> Router:
    """The first one; the one that is left."""
    await pod.crash("router-0")
    (left,) = pod.of("router")
    assert isinstance(left, Router)
    return left


async def until_kept(pod: Pod, router: Router, id: str) -> ResponseEnd:
    """How the response ended, though nobody asks for it."""
    async with asyncio.timeout(LIMIT):
        while (entry := await store_of(pod).get(f"{id.removeprefix('resp_')}.end")) is None:
            await router.view.changed(0.05)
    assert isinstance(entry.message, ResponseEnd)
    return entry.message


@pytest.fixture
async def pod(oracle_dirs: dict[str, Path]) -> AsyncIterator[Pod]:
    async with running_pod(LocalFabric(), oracle_dirs["plain"], ROUTERS) as running:
        yield running


async def whole(pod: Pod) -> list[int]:
    """The tokens without a fault."""
    id, _ = await begin(pod)
    return tokens([event async for event in events(pod, id)])


async def test_any_router_tells_what_runs_at_another(pod: Pod) -> None:
    expected = await whole(pod)
    id, told = await begin(pod)
    there = [event async for event in events(pod, id, router=1)]
    assert there[:40] == told
    assert tokens(there) == expected
    assert [event async for event in events(pod, id)] == there
    assert (await ask(pod, "GET", f"/{id}", router=1)) == there[-1]["response"]


async def test_another_router_goes_on_behind_the_event_that_arrived(pod: Pod) -> None:
    expected = await whole(pod)
    id, told = await begin(pod)
    await crash_router(pod)
    told += [event async for event in events(pod, id, after=39)]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert told[-1]["type"] == "response.incomplete"
    assert tokens(told) == expected
    assert [event async for event in events(pod, id)] == told


async def test_a_response_that_nobody_asks_for_goes_on(pod: Pod) -> None:
    id, _ = await begin(pod)
    left = await crash_router(pod)
    assert (await until_kept(pod, left, id)).tokens == 150


async def test_a_pod_that_was_lost_goes_on_unasked(nats: str, oracle_dirs: dict[str, Path]) -> None:
    async with running_pod(nats, oracle_dirs["plain"], ROUTERS, journal=0.05) as pod:
        expected = await whole(pod)
        id, told = await begin(pod)
        for name in list(pod.members):
            await pod.crash(name)
    async with running_pod(nats, oracle_dirs["plain"]) as pod:
        assert (await until_kept(pod, pod.router, id)).tokens == 150
        told += [event async for event in events(pod, id, after=39)]
        assert tokens(told) == expected


@pytest.mark.parametrize("router", [0, 1])
async def test_cancelling_frees_the_workers_whoever_is_asked(pod: Pod, router: int) -> None:
    id, _ = await begin(pod, max_output_tokens=900)
    answer = await ask(pod, "POST", f"/{id}/cancel", router=router)
    assert answer["status"] == "cancelled"
    for name in ("decode-0", "decode-1"):
        await until_empty(worker(pod, name), 5.0)
    assert {(await ask(pod, "GET", f"/{id}", router=each))["status"] for each in (0, 1)} == {"cancelled"}


async def test_who_leaves_in_the_foreground_frees_the_workers(pod: Pod) -> None:
    body = BODY | {"background": False, "stream": True, "max_output_tokens": 900}
    async with (
        httpx.AsyncClient(timeout=LIMIT) as client,
        client.stream("POST", f"{pod.url()}/v1/responses", json=body) as stream,
    ):
        async for line in stream.aiter_lines():
            if "output_text.delta" in line:
                break
    for name in ("decode-0", "decode-1"):
        await until_empty(worker(pod, name), 5.0)
