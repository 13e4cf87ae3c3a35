"""A real server on a loopback port: the official client, and sockets that close in mid-answer."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
import uvicorn

from router.api_fakes import EOS, LOGPROB, FakeEngine, app_of, says
from xpod.router.api import NotReady, SessionError


@asynccontextmanager
async def serving(engine: FakeEngine, **settings: Any) -> AsyncIterator[int]:
    """The port of a server that answers for `engine`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app_of(engine, **settings), log_level="warning", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        task = asyncio.create_task(server.serve([listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


@asynccontextmanager
async def client(engine: FakeEngine, key: str = "any", **settings: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    async with serving(engine, **settings) as port:
        url = f"http://127.0.0.1:{port}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as made:
            yield made


async def test_openai_client_chat() -> None:
    async with client(FakeEngine(*says("héllo 🙂"))) as api:
        answer = await api.chat.completions.create(model="fake", messages=[{"role": "user", "content": "hi"}])
    assert answer.choices[0].message.content == "héllo 🙂"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 2
    assert answer.model_extra is not None
    assert answer.model_extra["xpod"]["session"] == "s0"


async def test_openai_client_streams_a_chat() -> None:
    async with client(FakeEngine(*says("héllo 🙂"))) as api:
        stream = await api.chat.completions.create(
            model="fake",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
            logprobs=True,
            top_logprobs=1,
        )
        chunks = [chunk async for chunk in stream]
    *answers, last = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in answers) == "héllo 🙂"
    assert [chunk.choices[0].finish_reason for chunk in answers][-1] == "stop"
    logprobs = [c.choices[0].logprobs.content for c in answers if c.choices[0].logprobs]
    assert all(content and content[0].logprob == LOGPROB for content in logprobs)
    assert len(logprobs) == len("héllo 🙂".encode()) + 1
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == len(logprobs)


async def test_openai_client_streams_a_completion() -> None:
    async with client(FakeEngine(*says("to be or not"))) as api:
        stream = await api.completions.create(
            model="fake",
            prompt="x",
            max_tokens=99,
            stop=[" or"],
            stream=True,
            stream_options={"include_usage": True},
            logprobs=2,
            extra_body={"return_token_ids": True, "min_tokens": 1},
        )
        chunks = [chunk async for chunk in stream]
    *answers, last = chunks
    assert "".join(chunk.choices[0].text for chunk in answers) == "to be"
    ids = [token for chunk in answers for token in (chunk.choices[0].model_extra or {})["token_ids"]]
    assert bytes(ids) == b"to be or"
    assert all(c.choices[0].logprobs and c.choices[0].logprobs.token_logprobs == [LOGPROB] for c in answers)
    assert last.usage is not None
    assert last.usage.completion_tokens == len("to be or")


async def test_openai_client_raises_when_a_stream_fails() -> None:
    async with client(FakeEngine(97, SessionError("no_worker", "all decode workers are gone"))) as api:
        stream = await api.completions.create(model="fake", prompt="x", stream=True)
        with pytest.raises(openai.APIError, match="all decode workers are gone"):
            [chunk async for chunk in stream]


async def test_openai_client_errors() -> None:
    engine = FakeEngine(*says("ok"))
    async with client(engine) as api:
        with pytest.raises(openai.NotFoundError, match="gpt-9"):
            await api.completions.create(model="gpt-9", prompt="x")
        with pytest.raises(openai.BadRequestError, match="max_tokens"):
            await api.completions.create(model="fake", prompt="x", max_tokens=0)
        engine.refusal = NotReady("no decode worker")
        with pytest.raises(openai.InternalServerError, match="no decode worker"):
            await api.completions.create(model="fake", prompt="x")


async def test_openai_client_key_and_models() -> None:
    async with client(FakeEngine(), key="secret", api_key="secret", served_model_names=("a/b", "c")) as api:
        assert [model.id async for model in api.models.list()] == ["a/b", "c"]
        assert (await api.models.retrieve("a/b")).id == "a/b"
        with pytest.raises(openai.AuthenticationError):
            await api.with_options(api_key="wrong").models.list()


def request(body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + b"Content-Type: application/json\r\n\r\n" + content


@pytest.mark.parametrize("stream", [True, False])
async def test_a_closed_socket_frees_the_session(stream: bool) -> None:
    engine = FakeEngine(97, 98, asyncio.Event(), EOS)
    async with serving(engine) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request({"prompt": "x", "stream": stream}))
        if stream:
            await reader.readuntil(b'"text":"b"')
        else:
            await engine.began.wait()
        writer.close()
        await asyncio.wait_for(engine.sessions[0].left.wait(), 5)
        await writer.wait_closed()


async def test_a_kept_connection_takes_the_next_request() -> None:
    async with serving(FakeEngine(*says("ok"))) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(request({"prompt": "x", "stream": True}))
            await reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        writer.close()
        await writer.wait_closed()
