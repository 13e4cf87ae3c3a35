"""The load generator against a server on a real socket."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest
import typer.main

from cli.bench_server import Request, serving, token, usage, whole
from cli.conftest import Command, Result
from xpod.cli.bench.app import app

Json = dict[str, Any]
QUICK = ("--requests", "6", "--concurrency", "2", "--prompt-tokens", "9", "--output-tokens", "3")


@contextmanager
def closed_port() -> Iterator[str]:
    """A URL that nobody listens on, and that nobody else gets meanwhile."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


def measure(command: Command, url: str, *arguments: str) -> tuple[int, Json]:
    result = command("bench", "serve", "--url", url, "--json", *QUICK, *arguments)
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout)


def test_all_requests_are_answered(command: Command) -> None:
    with serving() as server:
        status, report = measure(command, server.url, "--seed", "5", "--api-key", "k,l")
    assert status == 0
    assert report["requests"]["completed"] == report["requests"]["sent"] == 6
    assert (report["tokens"]["prompt"], report["tokens"]["output"]) == (54, 18)
    assert report["tokens"]["counted_by_usage"] == 6
    assert all(report[name]["count"] for name in ("ttft_ms", "inter_token_ms", "time_per_token_ms", "e2e_ms"))
    assert (report["errors"], report["interrupted"]) == ([], False)
    assert report["parameters"]["seed"] == 5
    assert report["server"] == {
        "extensions": ["return_token_ids", "ignore_eos", "stream_options"],
        "version": "9",
    }
    assert report["machine"]["cores"]
    assert report["versions"]["python"]
    probe, *asked = server.bodies
    assert (probe["max_tokens"], probe["model"], len(probe["prompt"])) == (1, "m", 8)
    assert all(len(body["prompt"]) == 9 and body["ignore_eos"] and body["stream"] for body in asked)
    assert {each["authorization"] for each in server.headers} == {"Bearer k"}


def test_the_same_seed_asks_the_same(command: Command) -> None:
    with serving() as server:
        for _ in range(2):
            measure(command, server.url, "--seed", "5", "--concurrency", "1")
    assert server.bodies[:7] == server.bodies[7:]


def test_a_poisson_rate(command: Command) -> None:
    with serving() as server:
        arguments = (
            "--url",
            server.url,
            "--json",
            "--rate",
            "5000",
            "--requests",
            "9",
            "--output-tokens",
            "2",
        )
        result = command("bench", "serve", *arguments)
    report = json.loads(result.stdout)
    assert (result.returncode, report["requests"]["completed"]) == (0, 9)
    assert (report["parameters"]["rate"], report["parameters"]["concurrency"]) == (5000.0, None)
    starts = [each["start_s"] for each in sorted(report["each"], key=lambda each: each["index"])]
    assert starts == sorted(starts)
    assert starts[0] == 0.0
    assert report["late_ms"]["count"] == 9


def test_a_warmup_is_left_out(command: Command) -> None:
    with serving() as server:
        _, report = measure(command, server.url, "--warmup", "3")
    assert len(server.bodies) == 1 + 3 + 6
    assert report["requests"]["sent"] == 6
    assert report["warmup"] == {"requests": 3, "failed": 0}


def test_several_servers_are_asked_in_turn(command: Command) -> None:
    with serving() as one, serving() as other:
        status, _ = measure(command, f"{one.url}/v1/,{other.url}")
    assert status == 0
    assert (len(one.bodies), len(other.bodies)) == (1 + 3, 3)


def test_a_chat_has_words(command: Command) -> None:
    def chat(request: Request) -> None:
        delta = {"index": 0, "delta": {"content": "x"}, "finish_reason": "length"}
        request.say({"choices": [delta]}, usage(20, 3), "[DONE]")

    with serving(chat) as server:
        status, report = measure(command, server.url, "--endpoint", "chat")
    assert (status, report["tokens"]["prompt"]) == (0, 120)
    assert set(server.paths) == {"/v1/chat/completions"}
    assert len(server.bodies[1]["messages"][0]["content"].split()) == 9


def plain(request: Request) -> None:
    """A server that knows OpenAI's words only, takes no usage option, and ends when it wants to."""
    for name in ("return_token_ids", "ignore_eos", "stream_options"):
        if name in request.body:
            request.refuse(400, "Unrecognized request argument supplied")
            return
    request.say(token("a"), token("b", finish="stop"), "[DONE]")


def test_a_server_without_extensions(command: Command) -> None:
    with serving(plain) as server:
        status, report = measure(command, server.url)
    assert status == 0
    assert report["server"]["extensions"] == []
    assert (report["tokens"]["output"], report["tokens"]["counted_by_chunks"]) == (12, 6)
    assert report["requests"]["ended_early"] == 6


def test_the_extension_that_is_refused_is_given_up(command: Command) -> None:
    def picky(request: Request) -> None:
        if "ignore_eos" in request.body:
            request.refuse(422, "ignore_eos: extra inputs are not permitted")
        else:
            whole(request)

    with serving(picky) as server:
        _, report = measure(command, server.url)
    assert report["server"]["extensions"] == ["return_token_ids", "stream_options"]
    assert len(server.bodies) == 2 + 6


def cut_off(request: Request) -> None:
    request.say(token("a", [1]))


def error_in_stream(request: Request) -> None:
    request.say(token("a", [1]), {"error": {"message": "no expert", "type": "server_error"}})


def overloaded(request: Request) -> None:
    request.refuse(429, "too many")


def hang_up(request: Request) -> None:
    request.handler.connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("fail", "kind", "message"),
    [
        (cut_off, "cut off", "after 1 tokens"),
        (error_in_stream, "error in stream", "no expert"),
        (overloaded, "HTTP 429", "too many"),
        (hang_up, "connection lost", ""),
    ],
)
def test_failed_requests_are_errors(
    command: Command, fail: Callable[[Request], None], kind: str, message: str
) -> None:
    with serving(lambda request: (fail if request.number in {2, 4} else whole)(request)) as server:
        status, report = measure(command, server.url)
    assert status == 4
    assert (report["requests"]["completed"], report["requests"]["failed"]) == (4, 2)
    (error,) = report["errors"]
    assert (error["kind"], error["count"]) == (kind, 2)
    assert message in error["first"]
    assert report["e2e_ms"]["count"] == 4


def test_silence_is_an_error(command: Command) -> None:
    over = Event()

    def hang(request: Request) -> None:
        over.wait(10) if request.number == 3 else whole(request)

    with serving(hang) as server:
        status, report = measure(command, server.url, "--request-timeout", "0.1")
        over.set()
    assert status == 4
    assert [(error["kind"], error["count"]) for error in report["errors"]] == [("timeout", 1)]


def test_a_server_that_is_gone_is_an_error(command: Command) -> None:
    with serving() as server, closed_port() as gone:
        status, report = measure(command, f"{server.url},{gone}")
    assert status == 4
    assert [(error["kind"], error["count"]) for error in report["errors"]] == [("unreachable", 3)]


def test_text_for_people(command: Command) -> None:
    with serving(lambda request: (overloaded if request.number == 3 else whole)(request)) as server:
        result = command("bench", "serve", "--url", server.url, *QUICK)
    assert result.returncode == 4
    assert "5 completed, 1 failed" in result.stdout
    assert "time to first token" in result.stdout
    assert "HTTP 429" in result.stdout
    assert result.stderr == "xpod: 1 of 6 requests failed\n", "and no progress bar where nobody looks"


def test_ctrl_c_shows_what_was_measured(command: Command) -> None:
    def interrupt(request: Request) -> None:
        if request.number == 4:
            os.kill(os.getpid(), signal.SIGINT)
        whole(request)

    with serving(interrupt) as server:
        status, report = measure(command, server.url, "--concurrency", "1", "--requests", "500")
    assert status == 130
    assert report["interrupted"]
    assert 3 <= report["requests"]["completed"] < 500


def test_nobody_is_there(command: Command) -> None:
    with closed_port() as url:
        result = command("bench", "serve", "--url", url)
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith(f"xpod: {url} does not answer: ")


def not_ready(request: Request) -> None:
    request.refuse(503, "no decode worker")


@pytest.mark.parametrize(
    ("respond", "status", "message"),
    [
        (not_ready, 3, "no decode worker"),
        (lambda request: request.refuse(404, "no such model"), 4, "no such model"),
    ],
)
def test_a_server_that_refuses_everything(
    command: Command, respond: Callable[[Request], None], status: int, message: str
) -> None:
    with serving(respond) as server:
        result = command("bench", "serve", "--url", server.url)
    assert (result.returncode, result.stdout) == (status, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["--url", "h:1"], 2, "--url: 'h:1' is not of the form http://host:port"),
        (["--url", "http://h:x"], 2, "--url: 'http://h:x' is not a URL"),
        (["--url", ","], 2, "--url: no URL given"),
        (["--url", "http://h", "--rate", "1", "--concurrency", "1"], 2, "exclude each other"),
        (["--url", "http://h", "--prompt-tokens", "9:3"], 2, "--prompt-tokens: '9:3'"),
        (["--url", "http://h", "--output-tokens", "x"], 2, "--output-tokens: 'x'"),
        (["--url", "http://h", "--endpoint", "chat", "--prompt-as", "tokens"], 2, "--prompt-as"),
        (["--data", "/nowhere"], 3, "no pod runs in /nowhere"),
    ],
)
def test_what_cannot_be_is_one_line(command: Command, arguments: list[str], status: int, reason: str) -> None:
    result: Result = command("bench", "serve", *arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert result.stderr.startswith("xpod: ")
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1


def test_every_option_reads_its_variable() -> None:
    for command in typer.main.get_group(app).commands.values():
        for option in command.params:
            flag = option.opts[0]
            if flag != "--help":
                assert option.envvar == "XPOD_" + flag[2:].replace("-", "_").upper()
