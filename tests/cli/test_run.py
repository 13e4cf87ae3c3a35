"""What is asked of a router, and what becomes of its answer."""

import io
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from cli.conftest import Command
from xpod.cli.answer import Answer
from xpod.cli.client import PodClient

URL = ("--url", "http://h:1")


class Asked:
    """Takes the place of a pod: notes what is asked, says `answer`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: str = "an answer") -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.answer = answer
        monkeypatch.setattr(PodClient, "stream", lambda _, *arguments: self.stream(*arguments))

    def stream(self, path: str, body: dict[str, Any], show: Callable[[str], None], *_: object) -> Answer:
        self.requests.append((path, json.loads(json.dumps(body))))
        answer = Answer(started=0.0)
        choice = {"text": self.answer, "token_ids": [1, 2], "logprobs": {"token_logprobs": [-0.1, -1 / 3]}}
        show(answer.add({"id": "c", "choices": [{**choice, "finish_reason": "stop"}]}, 1.0))
        return answer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


def test_every_option_reaches_the_router(command: Command, asked: Asked) -> None:
    options = [
        "--max-tokens",
        "5",
        "--temperature",
        "0",
        "--top-p",
        "0.5",
        "--seed",
        "7",
        "--stop",
        "a",
        "--stop",
        "b",
    ]
    assert command("run", "hello", *options, *URL).stdout == "an answer\n"
    path, body = asked.requests[0]
    assert path == "/v1/completions"
    assert body == {
        "prompt": "hello",
        "max_tokens": 5,
        "temperature": 0.0,
        "top_p": 0.5,
        "seed": 7,
        "stop": ["a", "b"],
        "logprobs": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }


def test_what_is_not_chosen_is_left_to_the_model_but_for_the_seed(command: Command, asked: Asked) -> None:
    command("run", "hello", *URL)
    command("run", "hello", *URL)
    first, second = (body for _, body in asked.requests)
    assert not {"temperature", "top_p", "stop"} & first.keys()
    assert first["seed"] != second["seed"]


def test_variables(command: Command, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPOD_URL", "http://h:1")
    monkeypatch.setenv("XPOD_MAX_TOKENS", "3")
    command("run", "hello", "--seed", "1")
    assert asked.requests[0][1]["max_tokens"] == 3


def test_a_prompt_from_stdin(command: Command, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("two\nlines\n"))
    command("run", "-", *URL)
    assert asked.requests[0][1]["prompt"] == "two\nlines\n"


def test_json_is_one_object(command: Command, asked: Asked) -> None:
    printed = command("run", "hello", "--json", *URL).stdout
    assert json.loads(printed)["tokens"] == [1, 2]
    assert f"{-1 / 3!r}" in printed
    assert printed.count("\n") == 1


def test_logprobs_come_afterwards(command: Command, asked: Asked) -> None:
    result = command("run", "hello", "--logprobs", *URL)
    assert result.stdout == "an answer\n"
    assert result.stderr == f"1\t-0.1\n2\t{-1 / 3!r}\n"


def test_a_chat_remembers(command: Command, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n\ntwo\n"))
    result = command("chat", "--system", "be short", *URL)
    assert (result.returncode, result.stdout) == (0, "an answer\nan answer\n")
    path, body = asked.requests[1]
    assert path == "/v1/chat/completions"
    assert [turn["content"] for turn in body["messages"]] == ["be short", "one", "an answer", "two"]
