"""Chunks in, one answer out."""

import json
from typing import Any

import pytest

from xpod.cli.answer import Answer
from xpod.cli.errors import CliError, StreamFailed

Json = dict[str, Any]


def chunk(text: str, tokens: list[int], finish: str | None = None) -> Json:
    logprobs = {"token_logprobs": [-token / 3 for token in tokens]}
    choice = {"text": text, "token_ids": tokens, "logprobs": logprobs, "finish_reason": finish}
    return {"id": "cmpl-1", "choices": [choice], "usage": None}


LAST: Json = {
    "id": "cmpl-1",
    "choices": [],
    "usage": {"prompt_tokens": 4, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}},
    "xpod": {"session": "s", "recoveries": 1},
}
WHOLE = [chunk("a", [1]), chunk("bc", [2, 3], "stop"), LAST]


def test_a_whole_stream() -> None:
    answer = Answer(started=10.0)
    assert [answer.add(each, time) for each, time in zip(WHOLE, (10.5, 11.0, 11.0), strict=True)] == [
        "a",
        "bc",
        "",
    ]
    assert answer.as_json(11.5) == {
        "id": "cmpl-1",
        "text": "abc",
        "tokens": [1, 2, 3],
        "logprobs": [-1 / 3, -2 / 3, -1.0],
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 4, "completion_tokens": 3, "cached_tokens": 2},
        "timing": {"ttft_ms": 500.0, "tpot_ms": 250.0, "max_gap_ms": 500.0, "total_ms": 1500.0},
        "recoveries": 1,
    }


def test_logprobs_keep_every_bit() -> None:
    answer = Answer(started=0.0)
    answer.add(chunk("a", [1]), 1.0)
    assert f'"logprobs": [{-1 / 3!r}]' in json.dumps(answer.as_json(1.0))


def test_a_stream_that_broke_goes_on_where_it_was() -> None:
    answer = Answer(started=0.0)
    shown = answer.add(chunk("a", [1]), 1.0)
    answer.restart()
    for each in (chunk("ab", [1, 2]), chunk("c", [3], "stop"), LAST):
        shown += answer.add(each, 2.0)
    assert shown == answer.text == "abc"
    assert answer.tokens == [1, 2, 3]
    assert answer.logprobs == [-1 / 3, -2 / 3, -1.0]
    assert answer.as_json(2.0)["recoveries"] == 2


def test_a_replay_in_other_pieces_shows_nothing_twice() -> None:
    answer = Answer(started=0.0)
    answer.add(chunk("ab", [1, 2]), 1.0)
    answer.restart()
    assert [answer.add(each, 2.0) for each in (chunk("a", [1]), chunk("b", [2]), chunk("c", [3]))] == [
        "",
        "",
        "c",
    ]
    assert answer.arrivals == [1.0, 2.0]


@pytest.mark.parametrize("other", [chunk("x", [1]), chunk("a", [9])])
def test_another_answer_to_the_same_request_is_an_error(other: Json) -> None:
    answer = Answer(started=0.0)
    answer.add(chunk("a", [1]), 1.0)
    answer.restart()
    with pytest.raises(CliError, match="the answer changed"):
        answer.add(other, 2.0)


def test_chat_chunks() -> None:
    answer = Answer(started=0.0)
    logprobs = {"content": [{"token": "x", "logprob": -0.5}]}
    answer.add({"id": "c", "choices": [{"delta": {"role": "assistant"}}]}, 1.0)
    choice = {"delta": {"content": "hi"}, "token_ids": [5], "logprobs": logprobs, "finish_reason": "stop"}
    assert answer.add({"id": "c", "choices": [choice]}, 1.0) == "hi"
    assert (answer.tokens, answer.logprobs, answer.complete) == ([5], [-0.5], True)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "no", "type": "invalid_request_error"}, CliError),
        ({"message": "no", "type": "server_error"}, StreamFailed),
    ],
)
def test_errors_in_the_stream(error: Json, kind: type[CliError]) -> None:
    with pytest.raises(CliError, match=r"^no$") as raised:
        Answer(started=0.0).add({"error": error}, 1.0)
    assert (type(raised.value), raised.value.exit_code) == (kind, 4)
