"""/v1/responses with the official client: answers, fields, conversations, functions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from router.api_fakes import LOGPROB, FakeEngine, says
from router.response_fakes import ADD, CALL, events_of, kinds, routers
from xpod.router.api import Overloaded, SessionError

BASIC = {"model": "fake", "input": "hi"}
LOGPROBS = ["message.output_text.logprobs"]


@pytest.fixture
async def engine() -> FakeEngine:
    return FakeEngine(*says("héllo 🙂"))


@pytest.fixture
async def api(engine: FakeEngine) -> AsyncIterator[openai.AsyncOpenAI]:
    async with routers(engine) as (one,):
        yield one


def prompt_of(engine: FakeEngine) -> str:
    return bytes(engine.opened[-1][0]).decode()


async def test_an_answer(api: openai.AsyncOpenAI, engine: FakeEngine) -> None:
    answer = await api.responses.create(model="fake", input="hi")
    assert (answer.object, answer.status, answer.output_text) == ("response", "completed", "héllo 🙂")
    assert prompt_of(engine) == "<user>hi<assistant>"
    (message,) = answer.output
    assert (message.type, message.status) == ("message", "completed")
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (19, 12)
    assert answer.usage.input_tokens_details.cached_tokens == 2
    assert answer.usage.total_tokens == 31
    assert answer.completed_at is not None
    assert answer.completed_at >= answer.created_at


async def test_what_was_asked_for_is_repeated(api: openai.AsyncOpenAI, engine: FakeEngine) -> None:
    said: dict[str, Any] = {
        "instructions": "be brief",
        "max_output_tokens": 30,
        "metadata": {"order": "7"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "chat-1",
        "safety_identifier": "u1",
        "service_tier": "default",
        "temperature": 0.5,
        "tool_choice": "none",
        "tools": [ADD | {"description": "adds"}],
        "top_p": 0.9,
        "truncation": "auto",
        "user": "me",
    }
    body = (await api.responses.create(**BASIC, **said)).to_dict()
    assert {name: body[name] for name in said} == said
    assert body["text"] == {"format": {"type": "text"}}
    assert (body["store"], body["background"], body["previous_response_id"]) == (True, False, None)
    assert prompt_of(engine) == "<system>be brief<user>hi<assistant>"
    sampling = engine.opened[-1][1]
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (30, 0.5, 0.9)
    assert engine.affinities[-1].conversation == "chat-1"


async def test_extensions_reach_the_engine(api: openai.AsyncOpenAI, engine: FakeEngine) -> None:
    more = {
        "seed": 7,
        "top_k": 5,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "logit_bias": {"65": 1.0},
        "stop_token_ids": [66],
        "min_tokens": 1,
        "ignore_eos": True,
        "priority": -3,
        "cache_salt": "mine",
        "return_token_ids": True,
        "stop": "o",
        "timeout": 60.0,
    }
    answer = await api.responses.create(**BASIC, extra_body=more)
    sampling, affinity = engine.opened[-1][1], engine.affinities[-1]
    assert (sampling.seed, sampling.top_k, sampling.min_p, sampling.repetition_penalty) == (7, 5, 0.1, 1.1)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.5, -0.5)
    assert (sampling.logit_bias, sampling.stop_token_ids) == (((65, 1.0),), (66,))
    assert (sampling.min_tokens, sampling.ignore_eos) == (1, True)
    assert affinity.priority == -3
    assert affinity.salt
    assert answer.output_text == "héll"
    extension = answer.to_dict()["xpod"]
    assert extension["seed"] == 7
    assert extension["token_ids"] == list("héllo".encode())


async def test_too_few_tokens_leave_it_incomplete(api: openai.AsyncOpenAI) -> None:
    answer = await api.responses.create(**BASIC, max_output_tokens=3)
    assert (answer.status, answer.output_text) == ("incomplete", "hé")
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output[0].status == "incomplete"


async def test_logprobs(api: openai.AsyncOpenAI, engine: FakeEngine) -> None:
    engine.script = says("ab")
    answer = await api.responses.create(**BASIC, include=LOGPROBS, top_logprobs=2)
    (message,) = answer.output
    (part,) = message.content
    assert [entry.token for entry in part.logprobs] == ["a", "b"]
    assert {entry.logprob for entry in part.logprobs} == {LOGPROB}
    assert [len(entry.top_logprobs) for entry in part.logprobs] == [2, 2]
    assert engine.opened[-1][1].logprobs == 2
    assert await api.responses.retrieve(answer.id, include=LOGPROBS) == answer
    events = await events_of(
        await api.responses.create(**BASIC, include=LOGPROBS, top_logprobs=1, stream=True)
    )
    deltas = [event["logprobs"] for event in events if event["type"] == "response.output_text.delta"]
    assert [[entry["token"] for entry in each] for each in deltas] == [["a"], ["b"]]


async def test_messages_of_all_roles(api: openai.AsyncOpenAI, engine: FakeEngine) -> None:
    turns = [
        {"role": "developer", "content": "rules"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "b", "annotations": []}]},
        {"role": "user", "content": "c"},
    ]
    await api.responses.create(model="fake", input=turns)
    assert prompt_of(engine) == "<system>rules<user>a<assistant>b<user>c<assistant>"


async def test_json_of_a_schema(api: openai.AsyncOpenAI, engine: FakeEngine) -> None:
    class Sum(BaseModel):
        total: int

    engine.script = says('{"total": 3}')
    answer = await api.responses.parse(**BASIC, text_format=Sum)
    assert answer.output_parsed == Sum(total=3)
    assert "total" in engine.opened[-1][1].grammar
    await api.responses.create(**BASIC, text={"format": {"type": "json_object"}})
    assert engine.opened[-1][1].grammar


async def test_a_conversation_goes_on(api: openai.AsyncOpenAI, engine: FakeEngine) -> None:
    first = await api.responses.create(**BASIC, instructions="only now")
    second = await api.responses.create(model="fake", input="more", previous_response_id=first.id)
    assert prompt_of(engine) == "<user>hi<assistant>héllo 🙂<user>more<assistant>"
    assert second.previous_response_id == first.id
    await api.responses.delete(first.id)
    await api.responses.create(model="fake", input="x", previous_response_id=second.id)
    assert prompt_of(engine).startswith("<user>hi<assistant>héllo 🙂<user>more<assistant>héllo 🙂<user>x")
    with pytest.raises(openai.BadRequestError) as caught:
        await api.responses.create(model="fake", input="x", previous_response_id=first.id)
    assert (caught.value.code, caught.value.param) == (
        "previous_response_not_found",
        "previous_response_id",
    )


async def test_a_conversation_does_not_go_on_from_what_still_runs() -> None:
    hold = asyncio.Event()
    async with routers(FakeEngine(hold, *says("a"))) as (api,):
        running = await api.responses.create(**BASIC, background=True)
        with pytest.raises(openai.BadRequestError) as caught:
            await api.responses.create(model="fake", input="x", previous_response_id=running.id)
        assert caught.value.code == "previous_response_not_ended"
        hold.set()


async def test_a_function_is_called_and_answered(api: openai.AsyncOpenAI, engine: FakeEngine) -> None:
    engine.script = says(f"wait\n{CALL}")
    answer = await api.responses.create(**BASIC, tools=[ADD])
    words, call = answer.output
    assert (words.type, call.type) == ("message", "function_call")
    assert (call.name, json.loads(call.arguments), call.status) == ("add", {"a": 1}, "completed")
    engine.script = says("2")
    told = {"type": "function_call_output", "call_id": call.call_id, "output": "two"}
    turns = [{"role": "user", "content": "hi"}, *answer.output, told]
    await api.responses.create(model="fake", input=turns, tools=[ADD])
    by_hand = prompt_of(engine)
    assert by_hand == "<tool>add<user>hi<assistant>wait\n<tool>two<assistant>"
    await api.responses.create(model="fake", input=[told], tools=[ADD], previous_response_id=answer.id)
    assert prompt_of(engine) == by_hand


async def test_a_function_has_to_be_called(api: openai.AsyncOpenAI, engine: FakeEngine) -> None:
    engine.script = says(CALL)
    await api.responses.create(**BASIC, tools=[ADD], tool_choice={"type": "function", "name": "add"})
    assert '"const": "add"' in engine.opened[-1][1].grammar
    await api.responses.create(**BASIC, tools=[ADD], tool_choice="required")
    assert engine.opened[-1][1].grammar
    await api.responses.create(**BASIC, tools=[ADD])
    assert not engine.opened[-1][1].grammar
    await api.responses.create(**BASIC, tools=[{key: ADD[key] for key in ADD if key != "strict"}])
    assert engine.opened[-1][1].grammar, "strict where nothing is said"


async def test_a_call_that_was_cut_off_is_incomplete(api: openai.AsyncOpenAI, engine: FakeEngine) -> None:
    engine.script = says(CALL)
    answer = await api.responses.create(**BASIC, tools=[ADD], max_output_tokens=CALL.index(" 1"))
    (call,) = answer.output
    assert (answer.status, call.status) == ("incomplete", "incomplete")
    await api.responses.create(
        model="fake", input="go on", tools=[ADD], previous_response_id=answer.id, max_output_tokens=5
    )
    assert prompt_of(engine) == "<tool>add<user>hi<user>go on<assistant>", "it was never said"


async def test_a_conversation_that_is_too_long(api: openai.AsyncOpenAI, engine: FakeEngine) -> None:
    turns = []
    for number in range(6):
        turns += [
            {"role": "user", "content": f"question {number}"},
            {"role": "assistant", "content": f"answer {number}"},
        ]
    turns.append({"role": "user", "content": "last"})
    with pytest.raises(openai.BadRequestError) as caught:
        await api.responses.create(model="fake", input=turns, max_output_tokens=10)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input")
    await api.responses.create(
        model="fake", input=turns, max_output_tokens=10, truncation="auto", instructions="be"
    )
    longest = "<user>question 5<assistant>answer 5<user>last<assistant>"
    assert prompt_of(engine) == "<system>be" + longest
    with pytest.raises(openai.BadRequestError):
        await api.responses.create(model="fake", input="x" * 200, truncation="auto")


async def test_failures_before_the_first_event(api: openai.AsyncOpenAI, engine: FakeEngine) -> None:
    engine.refusal = Overloaded(3)
    for more in ({}, {"stream": True}, {"background": True}):
        with pytest.raises(openai.RateLimitError):
            await api.responses.create(**BASIC, **more)
    engine.refusal = None
    engine.script = [*b"a", SessionError("worker_lost", "gone")]
    with pytest.raises(openai.InternalServerError) as caught:
        await api.responses.create(**BASIC)
    assert caught.value.code == "worker_lost"


async def test_a_failure_in_mid_stream(api: openai.AsyncOpenAI, engine: FakeEngine) -> None:
    engine.script = [*b"a", SessionError("worker_lost", "gone")]
    events = await events_of(await api.responses.create(**BASIC, stream=True))
    assert kinds(events)[-3:] == ["content_part.done", "output_item.done", "failed"]
    failed = events[-1]["response"]
    assert failed["error"] == {"code": "worker_lost", "message": "gone"}
    assert failed["output"][0]["status"] == "incomplete"
    assert (await api.responses.retrieve(failed["id"])).to_dict() == failed


async def test_a_deadline(api: openai.AsyncOpenAI, engine: FakeEngine) -> None:
    engine.script = [*b"a", asyncio.Event()]
    with pytest.raises(openai.APIStatusError) as caught:
        await api.responses.create(**BASIC, extra_body={"timeout": 0.05})
    assert (caught.value.status_code, caught.value.code) == (408, "deadline_exceeded")
    assert engine.sessions[-1].cancelled.is_set()


async def test_a_client_that_leaves_ends_it_and_not_in_the_background(
    api: openai.AsyncOpenAI, engine: FakeEngine
) -> None:
    engine.script = [*b"a", asyncio.Event()]
    for background in (False, True):
        stream = await api.responses.create(**BASIC, stream=True, background=background)
        async for event in stream:
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        session = engine.sessions[-1]
        claim = engine.claims[-1]
        assert claim is not None
        assert (claim.lasting, claim.fresh) == (background, True)
        if not background:
            async with asyncio.timeout(5):
                await session.left.wait()
            continue
        answer = await api.responses.retrieve(event_id(engine))
        assert (answer.status, answer.output_text) == ("in_progress", "a")
        assert not session.left.is_set()


def event_id(engine: FakeEngine) -> str:
    claim = engine.claims[-1]
    assert claim is not None
    return "resp_" + claim.session[1:]
