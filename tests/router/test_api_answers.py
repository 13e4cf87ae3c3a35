"""Answers, whole and streamed, from a scripted engine, without a socket."""

from __future__ import annotations

import json
from typing import Any

import pytest

from router.api_fakes import CHAT, COMPLETIONS, EOS, HI, USAGE, FakeEngine, post, says
from router.asking import events, text_of, whole
from xpod.router.api.engine_protocol import Claim
from xpod.router.api.resume import Place


async def test_whole_chat() -> None:
    body = await whole(FakeEngine(*says("héllo")), CHAT, HI)
    assert body["object"] == "chat.completion"
    assert body["model"] == "fake"
    assert body["id"] == "chatcmpl-s0"
    (choice,) = body["choices"]
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": "héllo", "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    prompt = len("<user>hi<assistant>")
    assert body["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": 7,
        "total_tokens": prompt + 7,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    assert body["xpod"]["session"] == "s0"
    assert body["xpod"]["recoveries"] == 1


async def test_whole_completion() -> None:
    body = await whole(FakeEngine(*b"abcdefgh"), COMPLETIONS, {"prompt": "x", "max_tokens": 3})
    assert body["object"] == "text_completion"
    assert body["choices"] == [{"index": 0, "text": "abc", "logprobs": None, "finish_reason": "length"}]


async def test_streamed_chat() -> None:
    chunks = await events(FakeEngine(*says("hé")), CHAT, HI)
    assert {(c["id"], c["object"], c["model"]) for c in chunks} == {
        ("chatcmpl-s0", "chat.completion.chunk", "fake")
    }
    assert len({c["created"] for c in chunks}) == 1
    first, *_, last = [c["choices"][0] for c in chunks]
    assert first["delta"] == {"role": "assistant", "content": ""}
    assert last == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert all(c["choices"][0]["finish_reason"] is None for c in chunks[:-1])
    assert text_of(chunks) == "hé"
    assert "usage" not in chunks[0]
    assert chunks[-1]["xpod"]["session"] == "s0"
    assert [c for c in chunks if "xpod" in c] == chunks[-1:]


async def test_streamed_usage_comes_last_and_alone() -> None:
    chunks = await events(FakeEngine(*says("ab")), COMPLETIONS, {"prompt": "xyz"} | USAGE)
    assert [c["usage"] for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["prompt_tokens"] == 3
    assert chunks[-1]["usage"]["completion_tokens"] == 3
    assert [c for c in chunks if "xpod" in c] == chunks[-1:]


async def test_continuous_usage() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = await events(
        FakeEngine(*b"abc"), COMPLETIONS, {"prompt": "x", "max_tokens": 3, "stream_options": options}
    )
    assert [c["usage"]["completion_tokens"] for c in chunks] == [1, 2, 3, 3]


async def test_never_half_a_character() -> None:
    body = {"prompt": "x", "max_tokens": 13}
    chunks = await events(FakeEngine(*"né🙂日本".encode()), COMPLETIONS, body)
    assert [c["choices"][0]["text"] for c in chunks] == ["n", "é", "🙂", "日", "本\ufffd"[:1], ""][
        : len(chunks)
    ]


async def test_a_character_cut_off_by_the_end_is_replaced() -> None:
    chunks = await events(FakeEngine(*"a🙂".encode()), COMPLETIONS, {"prompt": "x", "max_tokens": 3})
    assert text_of(chunks) == "a\ufffd"
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


STOPS = [
    # script, stop, text, completion tokens, cancelled
    ("to the END of", "END", "to the ", 10, True),
    ("ENDEN", ["ENDX"], "ENDEN", 6, False),
    ("aaab", ["aab"], "a", 4, True),
    ("a日本b", ["本"], "a日", 7, True),
    ("abc", [], "abc", 4, False),
]


@pytest.mark.parametrize(("script", "stop", "text", "tokens", "cancelled"), STOPS)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_stop_strings(
    path: str, *, script: str, stop: object, text: str, tokens: int, cancelled: bool
) -> None:
    base = (HI if path == CHAT else {"prompt": "x"}) | {"stop": stop, "max_tokens": 40}
    engine = FakeEngine(*says(script))
    body = await whole(engine, path, base)
    chunks = await events(engine, path, base | USAGE)
    choice = body["choices"][0]
    assert (choice["text"] if path == COMPLETIONS else choice["message"]["content"]) == text
    assert text_of(chunks) == text
    assert choice["finish_reason"] == chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens"] == chunks[-1]["usage"]["completion_tokens"] == tokens
    assert [session.cancelled.is_set() for session in engine.sessions] == [cancelled] * 2


async def test_stop_strings_wait_for_min_tokens() -> None:
    body = {"prompt": "x", "stop": "b", "min_tokens": 3}
    answer = await whole(FakeEngine(*says("abcabc")), COMPLETIONS, body)
    assert answer["choices"][0]["text"] == "abca"


async def test_the_stopping_token_has_no_text() -> None:
    class Stops(FakeEngine):
        async def open(self, prompt: Any, sampling: Any, *more: Any) -> Any:
            session = await super().open(prompt, sampling, *more)
            inner = session._output
            session._output = lambda t: inner(EOS) if t == ord("!") else inner(t)  # type: ignore[method-assign]
            return session

    engine = Stops(*b"ab!c")
    body = await whole(engine, COMPLETIONS, {"prompt": "x", "stop_token_ids": [33]})
    assert (body["choices"][0]["text"], body["choices"][0]["finish_reason"]) == ("ab", "stop")
    assert engine.opened[0][1].stop_token_ids == (33,)


async def test_ignore_eos() -> None:
    body = {"prompt": "x", "ignore_eos": True, "max_tokens": 5, "return_token_ids": True}
    answer = await whole(FakeEngine(97, EOS, 98, EOS, 99, 100), COMPLETIONS, body)
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("abc", "length")
    assert choice["token_ids"] == [97, EOS, 98, EOS, 99]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_token_ids_are_in_every_chunk(path: str) -> None:
    base = (HI if path == CHAT else {"prompt": "x"}) | {"return_token_ids": True}
    chunks = await events(FakeEngine(*says("é")), path, base)
    ids = [choice.get("token_ids") for chunk in chunks for choice in chunk["choices"]]
    assert ids == ([[]] if path == CHAT else []) + [[0xC3], [0xA9], [EOS]]


async def test_event_ids_name_the_session_its_seed_and_the_token() -> None:
    body = {"prompt": "x", "stream": True, "seed": 7}
    answer = await post(FakeEngine(*says("abc")), COMPLETIONS, body)
    ids = [line.removeprefix("id: ") for line in answer.text.split("\n") if line.startswith("id: ")]
    assert ids == ["s0.7.0", "s0.7.1", "s0.7.2", "s0.7.3"]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_stream_goes_on_behind_the_last_event_that_arrived(path: str) -> None:
    engine = FakeEngine(*says("abc"))
    body = (HI if path == CHAT else {"prompt": "x"}) | USAGE
    answer = await post(engine, path, body, {"Last-Event-ID": "s9.77.1"})
    told = [json.loads(line[6:]) for line in answer.text.split("\n") if line.startswith("data: {")]
    texts = [c.get("text") or c.get("delta", {}).get("content") for each in told for c in each["choices"]]
    assert [text for text in texts if text] == ["c"]
    assert told[-1]["usage"]["completion_tokens"] == 4
    assert (engine.claims, engine.opened[0][1].seed) == ([Claim("s9", start=2)], 77)


@pytest.mark.parametrize("wrong", ["", "7", "s1.2", "s1.2.3.4", "S1.2.3", "s1.2.x", "s1.2." + "9" * 30])
async def test_an_id_that_is_not_ours_means_from_the_beginning(wrong: str) -> None:
    assert Place.of(wrong) is None


async def test_several_choices_have_no_place_to_go_on_from() -> None:
    engine = FakeEngine(*says("abc"))
    body = {"prompt": "x", "stream": True, "n": 2}
    answer = await post(engine, COMPLETIONS, body, {"Last-Event-ID": "s9.77.1"})
    assert engine.claims == [None, None]
    assert "id: " not in answer.text


async def test_echo() -> None:
    engine = FakeEngine(*says("!"))
    assert (await whole(engine, COMPLETIONS, {"prompt": "hé", "echo": True}))["choices"][0]["text"] == "hé!"
    assert (await whole(engine, COMPLETIONS, {"prompt": [104], "echo": True}))["choices"][0]["text"] == "h!"
    chunks = await events(engine, COMPLETIONS, {"prompt": ["a", "b"], "echo": True})
    assert [text_of(chunks, 0), text_of(chunks, 1)] == ["a!", "b!"]


PROMPTS: list[tuple[object, list[list[int]]]] = [
    ("ab", [[97, 98]]),
    (["ab", "c"], [[97, 98], [99]]),
    ([1, 2, 3], [[1, 2, 3]]),
    ([[1, 2], [3]], [[1, 2], [3]]),
]


@pytest.mark.parametrize(("prompt", "ids"), PROMPTS)
async def test_forms_of_a_prompt(prompt: object, ids: list[list[int]]) -> None:
    engine = FakeEngine(*says("ok"))
    body = await whole(engine, COMPLETIONS, {"prompt": prompt})
    assert [opened for opened, _ in engine.opened] == ids
    assert [choice["index"] for choice in body["choices"]] == list(range(len(ids)))
    assert body["usage"]["prompt_tokens"] == sum(map(len, ids))
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 2 * len(ids)


async def test_several_choices() -> None:
    engine = FakeEngine(*says("ok"))
    body = await whole(engine, COMPLETIONS, {"prompt": ["a", "bc"], "n": 3, "seed": 7})
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3, 4, 5]
    assert body["usage"]["prompt_tokens"] == 3
    assert body["usage"]["completion_tokens"] == 18
    assert body["xpod"]["sessions"] == ["s0", "s1", "s2", "s3", "s4", "s5"]
    seeds = [spec.seed for _, spec in engine.opened]
    assert seeds[0] == body["xpod"]["seed"] == 7
    assert len(set(seeds[:3])) == 3
    assert seeds[:3] == seeds[3:]


async def test_several_choices_streamed() -> None:
    chunks = await events(FakeEngine(*says("ok")), CHAT, HI | {"n": 3} | USAGE)
    assert [text_of(chunks, index) for index in range(3)] == ["ok"] * 3
    finishes = [c["index"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]]
    assert sorted(finishes) == [0, 1, 2]
    assert chunks[-1]["usage"]["completion_tokens"] == 9


@pytest.mark.parametrize(("seed", "folded"), [(0, 0), (5, 5), (-1, 2**63 - 1), (2**63 - 1, 2**63 - 1)])
async def test_seed(seed: int, folded: int) -> None:
    engine = FakeEngine(*says("ok"))
    await whole(engine, COMPLETIONS, {"prompt": "a", "seed": seed})
    assert engine.opened[0][1].seed == folded


async def test_a_seed_is_drawn_and_told() -> None:
    engine = FakeEngine(*says("ok"))
    bodies = [await whole(engine, CHAT, HI) for _ in range(3)]
    seeds = [spec.seed for _, spec in engine.opened]
    assert len(set(seeds)) == 3
    assert [body["xpod"]["seed"] for body in bodies] == seeds
    assert all(0 <= seed < 2**63 for seed in seeds)


async def test_sampling_parameters_reach_the_engine() -> None:
    engine = FakeEngine(*says("ok"))
    sent = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "presence_penalty": -1,
        "frequency_penalty": 2,
        "min_tokens": 2,
        "ignore_eos": True,
        "stop_token_ids": [4, 5],
        "max_tokens": 9,
        "seed": 3,
    }
    await post(
        engine, COMPLETIONS, sent | {"prompt": "x", "logit_bias": {"7": -100, "3": 1.5}, "logprobs": 4}
    )
    spec = engine.opened[0][1]
    for name, value in sent.items():
        assert getattr(spec, name) == (tuple(value) if isinstance(value, list) else value)
    assert spec.logit_bias == ((3, 1.5), (7, -100.0))
    assert spec.logprobs == 4


DEFAULTS = [
    (COMPLETIONS, {"prompt": "x"}, 16),
    (COMPLETIONS, {"prompt": "x" * 90}, 10),
    (CHAT, HI, 100 - len("<user>hi<assistant>")),
    (CHAT, HI | {"max_tokens": 5}, 5),
    (CHAT, HI | {"max_completion_tokens": 6}, 6),
    (CHAT, HI | {"max_completion_tokens": 6, "max_tokens": 6}, 6),
]


@pytest.mark.parametrize(("path", "body", "budget"), DEFAULTS)
async def test_token_budget(path: str, body: dict[str, Any], budget: int) -> None:
    engine = FakeEngine(*says("ok"))
    await whole(engine, path, body)
    assert engine.opened[0][1].max_tokens == budget


async def test_content_parts_and_developer_role() -> None:
    engine = FakeEngine(*says("ok"))
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}]
    await whole(engine, CHAT, {"messages": messages})
    assert bytes(engine.opened[0][0]).decode() == "<system>be brief<user>ab<assistant>"
