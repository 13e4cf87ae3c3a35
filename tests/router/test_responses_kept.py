"""Responses through other routers, after their router is gone, with other keys; cancelled, deleted, expired."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import openai
import pytest

from router.api_fakes import FakeEngine, says, shelf_of
from router.response_fakes import events_of, kinds, routers
from router.test_api_server import client
from xpod.router.api import NotReady
from xpod.router.api.responses import run as running
from xpod_runtime.local_store import LocalStore, Shelf
from xpod_runtime.testing import LIMIT

BASIC: dict[str, Any] = {"model": "fake", "input": "hi"}
BACKGROUND = BASIC | {"background": True}


async def lost(api: openai.AsyncOpenAI, id: str) -> openai.NotFoundError:
    with pytest.raises(openai.NotFoundError) as caught:
        await api.responses.retrieve(id)
    return caught.value


async def ended(api: openai.AsyncOpenAI, id: str) -> Any:
    """The last event of a response says that it has."""
    return (await events_of(await api.responses.retrieve(id, stream=True)))[-1]["response"]


async def found_later(api: openai.AsyncOpenAI, id: str) -> Any:
    while True:
        try:
            return await ended(api, id)
        except openai.NotFoundError:
            await asyncio.sleep(0.01)


async def test_another_router_goes_on_with_what_is_asked_for() -> None:
    """The first one hangs for ever; the second begins the same session, and says the same."""
    first, second = FakeEngine(*b"ab", asyncio.Event()), FakeEngine(*says("abc"))
    async with routers(first, second) as (one, two):
        response = await one.responses.create(**BACKGROUND, extra_body={"seed": 5, "top_k": 3})
        events = await events_of(await two.responses.retrieve(response.id, stream=True))
        assert events[-1]["response"]["status"] == "completed"
        assert (await two.responses.retrieve(response.id)).output_text == "abc"
        assert second.opened == first.opened
        (began,), (taken,) = first.claims, second.claims
        assert began is not None
        assert taken is not None
        assert (taken.session, taken.request) == (began.session, began.request)
        assert (taken.lasting, taken.fresh) == (True, False)
        assert second.affinities == first.affinities
        await one.responses.cancel(response.id)
        assert (await one.responses.retrieve(response.id)).output_text == "abc", "who ended it first is right"


async def test_a_pod_that_cannot_go_on_now_says_what_it_knows() -> None:
    first, second = FakeEngine(asyncio.Event()), FakeEngine()
    second.refusal = NotReady("no worker")
    async with routers(first, second) as (one, two):
        response = await one.responses.create(**BACKGROUND)
        assert (await two.responses.retrieve(response.id)).status == "queued"
        with pytest.raises(openai.APIStatusError) as caught:
            await two.responses.retrieve(response.id, stream=True)
        assert caught.value.status_code == 503


async def test_a_foreground_response_is_kept_unless_it_is_not_to_be() -> None:
    async with routers(FakeEngine(*says("a")), FakeEngine()) as (one, two):
        kept = await one.responses.create(**BASIC)
        assert (await two.responses.retrieve(kept.id)) == kept
        gone = await one.responses.create(**BASIC, store=False)
        assert gone.to_dict()["store"] is False
        for api in (one, two):
            await lost(api, gone.id)


async def test_cancelling() -> None:
    engine = FakeEngine(*b"ab", asyncio.Event())
    async with routers(engine, FakeEngine()) as (one, two):
        stream = await one.responses.create(**BACKGROUND, stream=True)
        events = []
        async for event in stream:
            events.append(event)
            if len(events) == 7:
                cancelled = await one.responses.cancel(events[0].response.id)  # type: ignore[union-attr]
        assert events[-1].type == "response.cancelled"
        assert (cancelled.status, cancelled.output_text) == ("cancelled", "ab")
        assert cancelled.output[0].status == "incomplete"
        for api in (one, two):
            assert await api.responses.retrieve(cancelled.id) == cancelled
            assert await api.responses.cancel(cancelled.id) == cancelled, "again"
        assert (
            kinds(await events_of(await two.responses.retrieve(cancelled.id, stream=True)))[-1] == "cancelled"
        )


async def test_only_what_runs_in_the_background_is_cancelled() -> None:
    async with routers(FakeEngine(*says("a"))) as (api,):
        response = await api.responses.create(**BASIC)
        with pytest.raises(openai.BadRequestError) as caught:
            await api.responses.cancel(response.id)
        assert caught.value.code == "not_in_background"


async def test_deleting() -> None:
    store = Shelf()
    engine = FakeEngine(*says("a"))
    async with routers(engine, FakeEngine(), store=store) as (one, two):
        response = await one.responses.create(**BASIC)
        await two.responses.delete(response.id)
        engine.script = (*b"a", asyncio.Event())
        runs = await one.responses.create(**BACKGROUND)
        await one.responses.delete(runs.id)
        assert engine.sessions[-1].stopped.is_set()
        for api in (one, two):
            for id in (response.id, runs.id):
                assert (await lost(api, id)).code == "response_not_found"
        with pytest.raises(openai.NotFoundError):
            await one.responses.delete(response.id)
    assert store.values == {}


async def test_what_is_too_old_is_gone() -> None:
    store = Shelf()
    async with routers(FakeEngine(*says("a")), store=store) as (one,):
        response = await one.responses.create(**BASIC)
    shelf = shelf_of(LocalStore(store), "router-1", seconds=0.01)
    async with client(FakeEngine(), shelf=shelf) as other:
        await asyncio.sleep(max(0.0, response.created_at + 1.01 - time.time()))
        refusal = await lost(other, response.id)
        assert "kept for 0.01 s" in refusal.message
        assert refusal.param == "response_id"


async def test_keys_are_kept_apart() -> None:
    async with routers(FakeEngine(*says("a")), api_key="mine,yours") as (api,):
        mine, yours = api.with_options(api_key="mine"), api.with_options(api_key="yours")
        response = await mine.responses.create(**BASIC)
        assert await mine.responses.retrieve(response.id) == response
        await lost(yours, response.id)
        for refused in (yours.responses.cancel, yours.responses.delete, yours.responses.input_items.list):
            with pytest.raises(openai.NotFoundError):
                await refused(response.id)
        with pytest.raises(openai.BadRequestError):
            await yours.responses.create(**BASIC, previous_response_id=response.id)
        assert await mine.responses.retrieve(response.id) == response


async def test_input_items() -> None:
    turns = [
        {"role": "user", "content": "a"},
        {
            "id": "x",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "b", "annotations": []}],
        },
        {"role": "user", "content": "c"},
    ]
    async with routers(FakeEngine(*says("a")), FakeEngine()) as (one, two):
        response = await one.responses.create(model="fake", input=turns)  # type: ignore[arg-type]
        listed = await two.responses.input_items.list(response.id)
        texts = [item.content[0].text for item in listed.data]  # type: ignore[union-attr]
        assert texts == ["c", "b", "a"]
        page = await two.responses.input_items.list(response.id, order="asc", limit=2)
        assert [item.id for item in page.data][1] == "x"
        assert page.has_more
        rest = [item async for item in page]
        assert [item.id for item in rest] == [item.id for item in reversed(listed.data)]
        with pytest.raises(openai.BadRequestError):
            await two.responses.input_items.list(response.id, after="nobody")
        more = await one.responses.create(**BASIC, previous_response_id=response.id)
        own = await one.responses.input_items.list(more.id)
        assert len(own.data) == 1, "what came before has its own list"


async def test_a_request_with_a_key_is_answered_once() -> None:
    first, second = FakeEngine(*says("a")), FakeEngine(*says("a"))
    headers = {"Idempotency-Key": "order 7"}
    async with routers(first, second) as (one, two):
        answers = [await api.responses.create(**BASIC, extra_headers=headers) for api in (one, one, two)]
        assert answers == answers[:1] * 3
        assert len(first.opened) == 1
        assert second.opened == []
        streamed = await two.responses.create(**BASIC, stream=True, extra_headers=headers)
        assert (await events_of(streamed))[-1]["response"]["id"] == answers[0].id
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            await two.responses.create(model="fake", input="other", extra_headers=headers)
        assert caught.value.code == "idempotency_key_reused"


async def test_a_store_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are told all the same, and kept later; what has to be kept is refused."""
    monkeypatch.setattr(running, "PAUSES", (0.01,) * 1000)
    monkeypatch.setattr(running, "PROMISE_SECONDS", LIMIT)  # who knows that it does not answer does not wait
    store = Shelf()
    async with routers(FakeEngine(*says("a")), FakeEngine(*says("a")), store=store) as (one, two):
        store.answers = False
        async with asyncio.timeout(LIMIT / 2):
            response = await one.responses.create(**BASIC)
        assert response.output_text == "a"
        assert await one.responses.retrieve(response.id) == response
        for wants in (two.responses.retrieve(response.id), one.responses.create(**BACKGROUND)):
            with pytest.raises(openai.APIStatusError) as caught:
                await wants
            assert caught.value.status_code == 503
        store.answers = True
        async with asyncio.timeout(LIMIT):
            assert await found_later(two, response.id) == response.to_dict()


async def test_tokens_that_were_lost_are_computed_again() -> None:
    store, again = Shelf(), FakeEngine(*says("abc"))
    async with routers(FakeEngine(*says("abc")), again, store=store) as (one, two):
        response = await one.responses.create(**BASIC)
        for key in [key for key in store.values if key.endswith(".0")]:
            del store.values[key]
        assert (await ended(two, response.id)) == response.to_dict()
        assert len(again.opened) == 1
        assert (await two.responses.retrieve(response.id)) == response, "and kept again"


async def test_what_is_too_large_to_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xpod.router.response_shelf.MOST_BYTES", 200)
    async with routers(FakeEngine(*says("a"))) as (api,):
        response = await api.responses.create(**BASIC)
        assert response.to_dict()["store"] is False
        for name, more in (("store", {"store": True}), ("background", {"background": True})):
            with pytest.raises(openai.BadRequestError) as caught:
                await api.responses.create(**BASIC, **more)  # type: ignore[arg-type]
            assert (caught.value.param, caught.value.code) == (name, "too_large_to_keep")


async def test_long_answers_with_alternatives_are_kept_in_pages() -> None:
    store = Shelf()
    engine = FakeEngine(*b"a" * 2000)
    engine.max_model_len = 3000
    include = ["message.output_text.logprobs"]
    async with routers(engine, FakeEngine(), store=store) as (one, two):
        response = await one.responses.create(
            **BASIC, include=include, top_logprobs=20, max_output_tokens=2000
        )
        assert await two.responses.retrieve(response.id) == response
    sizes = [len(value) for value, _ in store.values.values()]
    assert len(sizes) > 3
    assert max(sizes) < 1 << 20
