"""Failures, silences and clients that leave: each ends with a word, and frees what it held."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from router.api_fakes import CHAT, COMPLETIONS, EOS, HI, USAGE, FakeEngine, app_of, post, says
from xpod.router.api import SessionError

# what goes wrong: the status of a whole answer, and what is said
FAILURES: dict[str, tuple[Exception, int, dict[str, str]]] = {
    "nobody there": (
        SessionError("no_worker", "every decode worker is gone"),
        503,
        {"code": "no_worker", "type": "service_unavailable_error", "message": "every decode worker is gone"},
    ),
    "too late": (
        SessionError("queue_timeout", "every prefill worker is full"),
        408,
        {"code": "queue_timeout", "type": "timeout_error", "message": "every prefill worker is full"},
    ),
    "broken": (
        SessionError("divergence", "two answers"),
        500,
        {"code": "divergence", "type": "server_error", "message": "two answers"},
    ),
    "a bug": (
        RuntimeError("a bug"),
        500,
        {
            "code": "internal",
            "type": "server_error",
            "message": "internal error; the router's log has the details",
        },
    ),
}


@pytest.mark.parametrize("case", FAILURES)
@pytest.mark.parametrize("n", [1, 2])
async def test_a_failed_stream_says_so(case: str, n: int) -> None:
    failure, _, told = FAILURES[case]
    engine = FakeEngine(97, 98, failure)
    with capture_logs() as logs:
        answer = await post(engine, COMPLETIONS, {"prompt": "x", "n": n, "max_tokens": 9} | USAGE)
    assert [(entry["event"], entry["xpod"]["session"]) for entry in logs] == [("generation failed", "s0")]
    frames = answer.text.split("\n\n")[:-1]
    last = json.loads(frames[-1].removeprefix("data: "))
    assert last == {"error": {**told, "param": None}}
    assert "[DONE]" not in answer.text
    assert all(session.left.is_set() for session in engine.sessions)


@pytest.mark.parametrize("case", FAILURES)
async def test_a_failed_answer_says_so(case: str) -> None:
    failure, status, told = FAILURES[case]
    engine = FakeEngine(97, failure)
    with capture_logs() as logs:
        answer = await post(engine, CHAT, HI)
    assert [entry["event"] for entry in logs] == ["request failed"] * (case == "a bug")
    assert (answer.status_code, answer.json()["error"]) == (status, {**told, "param": None})
    assert ("retry-after" in answer.headers) == (status != 500)
    assert engine.sessions[0].left.is_set()


LATE = "not done within 0.01 s"


async def test_an_answer_that_is_not_complete_in_time_is_given_up() -> None:
    engine = FakeEngine(97, asyncio.Event())
    answer = await post(engine, COMPLETIONS, {"prompt": "x", "max_tokens": 9, "timeout": 0.01})
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "deadline_exceeded")
    assert answer.json()["error"]["message"] == LATE
    assert engine.sessions[0].left.is_set()


async def test_a_stream_that_is_not_complete_in_time_ends_with_words() -> None:
    engine = FakeEngine(97, asyncio.Event())
    answer = await post(
        engine, COMPLETIONS, {"prompt": "x", "n": 2, "max_tokens": 9, "timeout": 0.01, "stream": True}
    )
    assert LATE in answer.text.split("\n\n")[-2]
    assert "[DONE]" not in answer.text
    assert all(session.left.is_set() for session in engine.sessions)


async def test_an_answer_in_time_is_not_disturbed() -> None:
    answer = await post(FakeEngine(*says("ok")), COMPLETIONS, {"prompt": "x", "timeout": 60})
    assert answer.json()["choices"][0]["text"] == "ok"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_session_that_just_stops_is_an_error(stream: bool) -> None:
    answer = await post(FakeEngine(97, 98), COMPLETIONS, {"prompt": "x", "stream": stream})
    assert "incomplete" in answer.text
    assert "[DONE]" not in answer.text


async def test_when_one_of_several_cannot_be_opened_the_others_are_let_go() -> None:
    class Second(FakeEngine):
        async def open(self, prompt: Any, sampling: Any, *more: Any) -> Any:
            if self.sessions:
                raise SessionError("full", "no slot")
            return await super().open(prompt, sampling, *more)

    engine = Second(*says("ok"))
    answer = await post(engine, COMPLETIONS, {"prompt": "x", "n": 2})
    assert answer.status_code == 500
    assert engine.sessions[0].left.is_set()


async def test_silence_is_filled() -> None:
    """The engine goes on only after the client has seen two keep-alives, so nothing here depends on time."""
    gate, seen = asyncio.Event(), []
    engine = FakeEngine(97, gate, EOS)
    app = app_of(engine, keep_alive=0.001)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            seen.append(message["body"])
        if seen.count(b": keep-alive\n\n") == 2:
            gate.set()

    await app(scope(), body_then_silence({"prompt": "x", "stream": True}), send)
    assert seen[-2:] == [b"data: [DONE]\n\n", b""]
    assert seen.count(b": keep-alive\n\n") >= 2


async def test_a_router_that_is_cut_off_does_not_keep_its_clients() -> None:
    """It is silent, so that they go elsewhere; whoever stays gets the rest when it comes."""
    gate, seen = asyncio.Event(), []

    class CutOff(FakeEngine):
        asked = 0

        def reaches_pod(self) -> bool:
            self.asked += 1
            if self.asked == 3:
                gate.set()
            return False

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            seen.append(message["body"])

    app = app_of(CutOff(97, gate, EOS), keep_alive=0.001)
    await app(scope(), body_then_silence({"prompt": "x", "stream": True}), send)
    assert seen[-2:] == [b"data: [DONE]\n\n", b""]
    assert b": keep-alive\n\n" not in seen


def scope() -> dict[str, Any]:
    headers = [(b"content-type", b"application/json")]
    return {
        "type": "http",
        "method": "POST",
        "path": COMPLETIONS,
        "raw_path": COMPLETIONS.encode(),
        "query_string": b"",
        "headers": headers,
        "http_version": "1.1",
        "scheme": "http",
        "server": ("router", 80),
        "client": ("client", 1),
        "root_path": "",
    }


def body_then_silence(body: dict[str, Any], gone: asyncio.Event | None = None) -> Any:
    async def messages() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    feed = messages()

    async def receive() -> Any:
        async for message in feed:
            return message
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    return receive


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_frees_its_session(stream: bool) -> None:
    gone = asyncio.Event()
    engine = FakeEngine(97, asyncio.Event())
    body = {"prompt": "x", "stream": stream, "n": 2}

    async def send(message: Any) -> None:
        pass

    running = asyncio.create_task(app_of(engine)(scope(), body_then_silence(body, gone), send))
    await engine.began.wait()
    gone.set()
    await running
    assert engine.sessions
    assert all(session.left.is_set() for session in engine.sessions)


async def test_a_cancelled_server_task_frees_its_session() -> None:
    engine = FakeEngine(97, asyncio.Event())

    async def send(message: Any) -> None:
        pass

    running = asyncio.create_task(app_of(engine)(scope(), body_then_silence({"prompt": "x"}), send))
    await engine.began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert engine.sessions[0].left.is_set()
