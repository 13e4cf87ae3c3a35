"""How likely tokens were, in answers and of prompts."""

from __future__ import annotations

import asyncio
import struct

from router.api_fakes import CHAT, COMPLETIONS, HI, LOGPROB, FakeEngine, post, says
from router.asking import events, whole
from xpod.router.api.engine_protocol import SessionError


def fp32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


async def test_chat_logprobs_keep_every_bit() -> None:
    body = await whole(FakeEngine(*says("é")), CHAT, HI | {"logprobs": True, "top_logprobs": 2})
    logprobs = body["choices"][0]["logprobs"]
    assert logprobs["refusal"] is None
    first, second, last = logprobs["content"]
    assert first["logprob"] == LOGPROB == fp32(LOGPROB)
    assert first["token"] == "\\xc3"
    assert [first["bytes"], second["bytes"]] == [[0xC3], [0xA9]]
    assert last["token"] == "<eos>"
    assert first["top_logprobs"] == [
        {"token": "A", "bytes": [65], "logprob": LOGPROB},
        {"token": "B", "bytes": [66], "logprob": LOGPROB - 1},
    ]


async def test_chat_logprobs_stream_with_their_tokens() -> None:
    engine = FakeEngine(*says("ab"))
    chunks = await events(engine, CHAT, HI | {"logprobs": True})
    content = [chunk["choices"][0]["logprobs"]["content"] for chunk in chunks[1:]]
    assert [[entry["token"] for entry in each] for each in content] == [["a"], ["b"], ["<eos>"]]
    assert content[0][0]["top_logprobs"] == []
    assert engine.opened[0][1].logprobs == 0


async def test_completion_logprobs() -> None:
    body = await whole(FakeEngine(*says("é!")), COMPLETIONS, {"prompt": "x", "logprobs": 1})
    assert body["choices"][0]["logprobs"] == {
        "tokens": ["bytes:\\xc3", "bytes:\\xa9", "!", "<eos>"],
        "token_logprobs": [LOGPROB] * 4,
        "top_logprobs": [
            {"A": LOGPROB, token: LOGPROB} for token in ("bytes:\\xc3", "bytes:\\xa9", "!", "<eos>")
        ],
        "text_offset": [0, 0, 1, 2],
    }


async def test_no_logprobs_unless_asked() -> None:
    engine = FakeEngine(*says("a"))
    await whole(engine, COMPLETIONS, {"prompt": "x"})
    assert engine.opened[0][1].logprobs == -1


async def test_echo_with_logprobs() -> None:
    """The prompt's come first; nothing says how likely the first token is."""
    engine = FakeEngine(*says("!"))
    body = {"prompt": ["hé", "x"], "n": 2, "echo": True, "logprobs": 1}
    answer = await whole(engine, COMPLETIONS, body)
    assert engine.scored == [list("hé".encode()), list(b"x")], "once for all choices"
    first, second, *_ = answer["choices"]
    assert first["text"] == second["text"] == "hé!"
    assert first["logprobs"] == {
        "text_offset": [0, 1, 1, 2, 3],
        "token_logprobs": [None, LOGPROB - 0xC3, LOGPROB - 0xA9, LOGPROB, LOGPROB],
        "tokens": ["h", "bytes:\\xc3", "bytes:\\xa9", "!", "<eos>"],
        "top_logprobs": [
            None,
            {"A": LOGPROB, "bytes:\\xc3": LOGPROB - 0xC3},
            {"A": LOGPROB, "bytes:\\xa9": LOGPROB - 0xA9},
            {"A": LOGPROB, "!": LOGPROB},
            {"A": LOGPROB, "<eos>": LOGPROB},
        ],
    }
    assert answer["choices"][2]["logprobs"]["token_logprobs"] == [None, LOGPROB, LOGPROB]
    chunks = await events(engine, COMPLETIONS, body)
    parts = [c["choices"][0]["logprobs"] for c in chunks if c["choices"][0]["index"] == 0]
    joined = {name: [each for part in parts for each in part[name]] for name in first["logprobs"]}
    assert joined == first["logprobs"]


async def test_scoring_may_fail_and_take_too_long() -> None:
    engine = FakeEngine(*says("!"))
    engine.refusal = SessionError("no_worker", "nobody")
    body = {"prompt": "hi", "echo": True, "logprobs": 0}
    assert (await post(engine, COMPLETIONS, body)).status_code == 503
    engine.refusal, slow = None, asyncio.Event()
    engine.scores = lambda *_: slow.wait()  # type: ignore[method-assign, assignment, return-value]
    late = await post(engine, COMPLETIONS, body | {"timeout": 0.01})
    assert (late.status_code, late.json()["error"]["code"]) == (408, "deadline_exceeded")
    assert engine.opened == []
