"""The events of responses: their order, their numbers, and that they are the same wherever they are told."""

from __future__ import annotations

import asyncio

import openai
import pytest

from router.api_fakes import FakeEngine, says
from router.response_fakes import ADD, CALL, events_of, kinds, routers

BASIC = {"model": "fake", "input": "hi"}
MESSAGE = ["output_item.added", "content_part.added"]
MESSAGE_END = ["output_text.done", "content_part.done", "output_item.done"]
CALLED = ["output_item.added", *["function_call_arguments.delta"] * 8, "function_call_arguments.done"]


def words(count: int) -> list[str]:
    return [*MESSAGE, *["output_text.delta"] * count, *MESSAGE_END]


SCRIPTS = [
    (says("abc"), {}, [*words(3), "completed"]),
    (says(""), {}, [*words(0), "completed"]),
    (says("  "), {}, [*words(1), "completed"]),
    (says("  a"), {}, [*words(1), "completed"]),
    (says("abc"), {"max_output_tokens": 2}, [*words(2), "incomplete"]),
    (says("a END b"), {"extra_body": {"stop": " END"}}, [*words(1), "completed"]),
    (says(CALL), {"tools": [ADD]}, [*CALLED, "output_item.done", "completed"]),
    (says(f"\n{CALL}\n"), {"tools": [ADD]}, [*CALLED, "output_item.done", "completed"]),
    (says(f"ab{CALL}"), {"tools": [ADD]}, [*words(2), *CALLED, "output_item.done", "completed"]),
    (
        says(f"{CALL}\n{CALL}"),
        {"tools": [ADD]},
        [*CALLED, "output_item.done", *CALLED, "output_item.done", "completed"],
    ),
    (says(f"{CALL}ab"), {"tools": [ADD]}, [*CALLED, "output_item.done", *words(2), "completed"]),
]


@pytest.mark.parametrize(("script", "more", "expected"), SCRIPTS)
async def test_events_come_in_order(script: list[int], more: dict[str, object], expected: list[str]) -> None:
    """And again in the same words, at another router, whatever the number after which they are asked for."""
    engine = FakeEngine(*script)
    engine.max_model_len = 300
    async with routers(engine, FakeEngine()) as (one, two):
        events = await events_of(await one.responses.create(**BASIC, stream=True, **more))  # type: ignore[call-overload]
        assert kinds(events) == ["created", "in_progress", *expected]
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        id = events[0]["response"]["id"]
        assert (await two.responses.retrieve(id)).to_dict() == events[-1]["response"]
        for after in (0, 3, len(events) - 2, len(events)):
            again = await two.responses.retrieve(id, stream=True, starting_after=after)
            assert await events_of(again) == events[after + 1 :]


async def test_items_and_texts_in_events_agree() -> None:
    async with routers(FakeEngine(*says(f"héllo{CALL}"))) as (api,):
        events = await events_of(await api.responses.create(**BASIC, stream=True, tools=[ADD]))
    output = events[-1]["response"]["output"]
    assert [event["item"] for event in events if event["type"].endswith("output_item.done")] == output
    deltas = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    (done,) = [e for e in events if e["type"] == "response.output_text.done"]
    assert deltas == done["text"] == output[0]["content"][0]["text"] == "héllo"
    arguments = "".join(e["delta"] for e in events if e["type"] == "response.function_call_arguments.delta")
    assert arguments == output[1]["arguments"] == '{"a": 1}'
    assert [event["output_index"] for event in events if "output_index" in event][-1] == 1
    for event in events:
        if "item_id" in event:
            assert event["item_id"] == output[event["output_index"]]["id"]


async def test_the_clients_own_accumulation() -> None:
    async with (
        routers(FakeEngine(*says(f"ab{CALL}"))) as (api,),
        api.responses.stream(model="fake", input="hi", tools=[ADD]) as stream,
    ):
        async for _ in stream:
            pass
        final = await stream.get_final_response()
    assert final.output_text == "ab"
    assert final.output[1].type == "function_call"


async def test_token_ids_where_they_are_wanted() -> None:
    async with routers(FakeEngine(*says(f"é{CALL}"))) as (api,):
        stream = await api.responses.create(
            **BASIC,  # type: ignore[call-overload]
            stream=True,
            tools=[ADD],
            extra_body={"return_token_ids": True},
        )
        events = await events_of(stream)
    told = [token for event in events for token in event.get("token_ids", [])]
    every = events[-1]["response"]["xpod"]["token_ids"]
    assert told == every[: len(told)]
    assert every == says(f"é{CALL}")


async def test_a_background_response_is_followed_while_it_runs() -> None:
    hold = asyncio.Event()
    engine = FakeEngine(*b"ab", hold, *says("cd"))
    async with routers(engine) as (api,):
        waits = asyncio.Event()
        engine.script = [waits, *engine.script]
        response = await api.responses.create(**BASIC, background=True)  # type: ignore[call-overload]
        assert (response.status, response.output) == ("queued", [])
        waits.set()
        stream = await api.responses.retrieve(response.id, stream=True)
        told = []
        async for event in stream:
            told.append(event.model_dump(mode="json", exclude_unset=True))
            if len(told) == 7:
                break
        assert kinds(told) == ["created", "queued", "in_progress", *MESSAGE, *["output_text.delta"] * 2]
        assert told[0]["response"]["status"] == "queued"
        assert told[2]["response"]["status"] == "in_progress"
        rest = asyncio.create_task(
            events_of(await api.responses.retrieve(response.id, stream=True, starting_after=6))
        )
        hold.set()
        assert [event["sequence_number"] for event in await rest] == list(range(7, 13))
        assert (await api.responses.retrieve(response.id)).output_text == "abcd"


async def test_a_background_response_is_streamed_at_once_if_wanted() -> None:
    async with routers(FakeEngine(*says("a"))) as (api,):
        stream = await api.responses.create(**BASIC, background=True, stream=True)  # type: ignore[call-overload]
        events = await events_of(stream)
    assert kinds(events) == ["created", "queued", "in_progress", *words(1), "completed"]
    assert events[-1]["response"]["background"] is True


async def test_starting_after_belongs_to_streams() -> None:
    async with routers(FakeEngine(*says("a"))) as (api,):
        response = await api.responses.create(**BASIC)  # type: ignore[call-overload]
        with pytest.raises(openai.BadRequestError) as caught:
            await api.responses.retrieve(response.id, extra_query={"starting_after": 3})
    assert caught.value.param == "starting_after"
