"""Answers that are held to a form, from a whole pod, also when their worker dies in the middle."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageFunctionToolCall

from pod.harness import Shape, first, running_pod, worker
from xpod.router.api.engine_protocol import SessionError
from xpod_model.demo import demo_path
from xpod_model.grammar import LIMITS, of_json, of_regex
from xpod_proto import SamplingSpec

SHAPE = Shape(decode=2)
PROMPT = list(range(100, 130))
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 30, "maxLength": 60},
        "sizes": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 999},
            "minItems": 12,
            "maxItems": 12,
        },
        "good": {"type": "boolean"},
    },
    "required": ["name", "sizes", "good"],
    "additionalProperties": False,
}
SPEC = SamplingSpec(7, 400, temperature=1.0, grammar=of_json(SCHEMA))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_a_guided_stream_survives_its_decode_worker(nats: str, temperature: float) -> None:
    """The grammar's state is rebuilt from the tokens: the rest has the same bits, and the whole is JSON."""
    spec = replace(SPEC, temperature=temperature)
    async with running_pod(nats, demo_path(), SHAPE) as pod:
        whole = await pod.generate(PROMPT, spec)
        session = await pod.router.engine.open(PROMPT, spec)
        begun = await first(session, len(whole) // 2)
        used = next(name for name in ("decode-0", "decode-1") if worker(pod, name).engine.sequences)
        await pod.crash(used)
        async with asyncio.timeout(60):
            rest = [output async for output in session]
        assert session.recoveries == 1
        assert begun + rest == whole
        assert whole[-1].finish == "stop"


async def test_openais_client_gets_json_of_its_schema(nats: str) -> None:
    async with (
        running_pod(nats, demo_path(), SHAPE) as pod,
        openai.AsyncOpenAI(base_url=f"{pod.url()}/v1", api_key="any", max_retries=0) as client,
    ):
        asked: dict[str, Any] = {
            "model": pod.router.engine.model_name,
            "messages": [{"role": "user", "content": "A thing, please."}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA}},
            "seed": 3,
            "max_tokens": 400,
        }
        answer = await client.chat.completions.create(**asked)
        value = json.loads(answer.choices[0].message.content or "")
        assert list(value) == ["name", "sizes", "good"]
        assert len(value["sizes"]) == 12
        stream = await client.chat.completions.create(**asked, stream=True)
        chunks = [chunk async for chunk in stream]
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert said == answer.choices[0].message.content


async def test_openais_client_gets_a_call_of_its_tool(nats: str) -> None:
    """One that the schema allows, also when the decode worker dies while it is written."""
    tool: dict[str, Any] = {"type": "function", "function": {"name": "keep", "parameters": SCHEMA}}
    async with (
        running_pod(nats, demo_path(), SHAPE) as pod,
        openai.AsyncOpenAI(base_url=f"{pod.url()}/v1", api_key="any", max_retries=0) as client,
    ):
        asked: dict[str, Any] = {
            "model": pod.router.engine.model_name,
            "messages": [{"role": "user", "content": "Keep a thing, please."}],
            "tools": [tool],
            "tool_choice": "required",
            "parallel_tool_calls": False,
            "seed": 3,
            "max_tokens": 400,
        }
        answer = (await client.chat.completions.create(**asked)).choices[0]
        assert answer.finish_reason == "tool_calls"
        (call,) = answer.message.tool_calls or []
        assert isinstance(call, ChatCompletionMessageFunctionToolCall)
        assert call.function.name == "keep"
        assert len(json.loads(call.function.arguments)["sizes"]) == 12

        name, arguments, finish, crashed = "", "", "", False
        async for chunk in await client.chat.completions.create(**asked, stream=True):
            for choice in chunk.choices:
                for delta in choice.delta.tool_calls or []:
                    name += (delta.function and delta.function.name) or ""
                    arguments += (delta.function and delta.function.arguments) or ""
                finish = choice.finish_reason or finish
            if len(arguments) > 40 and not crashed:
                crashed = True
                await pod.crash(next(n for n in ("decode-0", "decode-1") if worker(pod, n).engine.sequences))
        assert crashed
        assert (name, arguments, finish) == ("keep", call.function.arguments, "tool_calls")

        told = {"role": "tool", "tool_call_id": call.id, "content": "kept"}
        turns = [*asked["messages"], answer.message.model_dump(exclude_none=True), told]
        last = await client.chat.completions.create(
            **asked | {"messages": turns, "tool_choice": "none", "max_tokens": 4}
        )
        assert last.choices[0].message.tool_calls is None


async def test_guided_and_free_requests_share_a_batch(nats: str) -> None:
    free = replace(SPEC, grammar="", max_tokens=60, ignore_eos=True)
    async with running_pod(nats, demo_path()) as pod:
        alone = [await pod.generate(PROMPT, spec) for spec in (SPEC, free)]
        together = await asyncio.gather(*(pod.generate(PROMPT, spec) for spec in (SPEC, free)))
        assert together == alone


@pytest.mark.parametrize("limit", ["initial_lexer_fuel", "step_max_items"])
async def test_a_grammar_that_is_too_much_work_is_the_clients_fault(
    nats: str, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Before its first token, or at one: others' requests do not notice."""
    free = replace(SPEC, grammar="", max_tokens=60)
    bomb = replace(SPEC, grammar=of_regex("(.*a.{20}|.*b.{19}c)+"))
    async with running_pod(nats, demo_path()) as pod:
        before = await pod.generate(PROMPT, free)
        monkeypatch.setitem(LIMITS, limit, 3)
        session = await pod.router.engine.open(PROMPT, bomb)
        other = asyncio.create_task(pod.generate(PROMPT, free))
        with pytest.raises(SessionError) as raised:
            async with asyncio.timeout(30):
                _ = [output async for output in session]
        assert raised.value.code == "bad_grammar"
        assert await other == before
