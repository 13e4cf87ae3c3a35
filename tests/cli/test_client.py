"""Routers that answer, refuse, vanish and come back."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from xpod.cli import client as client_module
from xpod.cli.client import PodClient
from xpod.cli.errors import REFUSED, UNREACHABLE, CliError

Respond = Callable[[httpx.Request], httpx.Response]
BODY = {"prompt": "p", "seed": 1}
A, B = "http://a", "http://b"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "RETRY_SECONDS", 0.0)


def event(**chunk: Any) -> bytes:
    return f"data: {json.dumps(chunk)}\n\n".encode()


def token(text: str, finish: str | None = None) -> bytes:
    return event(id="c", choices=[{"text": text, "token_ids": [ord(text)], "finish_reason": finish}])


WHOLE = [token("a"), b": keep-alive\n\n", token("b"), token("c", "length"), b"data: [DONE]\n\n"]


class Pieces(httpx.SyncByteStream):
    """A body that may break off."""

    def __init__(self, pieces: list[bytes], *, breaks: bool = False) -> None:
        self._pieces = pieces
        self._breaks = breaks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._breaks:
            raise httpx.ReadError("connection reset")


def stream(*pieces: bytes, breaks: bool = False) -> httpx.Response:
    return httpx.Response(200, stream=Pieces(list(pieces), breaks=breaks))


def refuse(status: int, message: str, kind: str = "invalid_request_error") -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, "type": kind}})


def refused_connection(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


def ask(*responses: httpx.Response | Respond, patience: float = 60.0) -> tuple[str, list[str], Any]:
    """Asks two routers; the responses are given in turn. Returns the text shown, who was asked, the answer."""
    turn = iter(responses)
    asked: list[str] = []
    shown: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        assert json.loads(request.content) == BODY
        response = next(turn)
        return response(request) if callable(response) else response

    with PodClient([A, B], patience=patience, transport=httpx.MockTransport(handle)) as client:
        answer = client.stream("/v1/completions", BODY, shown.append)
    return "".join(shown), asked, answer


def test_one_stream() -> None:
    shown, asked, answer = ask(stream(*WHOLE))
    assert (shown, asked, answer.tokens, answer.finish_reason) == ("abc", ["a"], [97, 98, 99], "length")


@pytest.mark.parametrize(
    "unready", [refused_connection, refuse(503, "no decode worker"), refuse(502, "bad gateway")]
)
def test_another_router_is_asked(unready: httpx.Response | Respond) -> None:
    shown, asked, _ = ask(unready, stream(*WHOLE))
    assert (shown, asked) == ("abc", ["a", "b"])


@pytest.mark.parametrize(
    "lost",
    [
        stream(*WHOLE[:3], breaks=True),
        stream(*WHOLE[:3]),
        stream(*WHOLE[:3], event(error={"message": "draining", "type": "server_error"})),
    ],
)
def test_a_router_that_dies_in_the_middle_is_replaced(lost: httpx.Response) -> None:
    shown, asked, answer = ask(lost, refused_connection, stream(*WHOLE))
    assert (shown, answer.text, answer.tokens) == ("abc", "abc", [97, 98, 99])
    assert asked[:2] == ["a", "b"]
    assert answer.resumed == 1


def test_a_stream_with_ids_goes_on_behind_the_last_one() -> None:
    begun = [b"id: s1.5.0\n" + token("a"), b"id: s1.5.1\n" + token("b")]
    sent: list[str | None] = []

    def rest(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers.get("last-event-id"))
        return stream(b"id: s2.5.2\n" + token("c", "length"), b"data: [DONE]\n\n")

    shown, asked, answer = ask(stream(*begun, breaks=True), rest)
    assert (shown, answer.tokens, answer.resumed) == ("abc", [97, 98, 99], 1)
    assert (asked, sent) == (["a", "b"], ["s1.5.1"])


def test_each_try_waits_longer_for_a_silent_router() -> None:
    patience: list[float] = []

    def silent(request: httpx.Request) -> httpx.Response:
        patience.append(request.extensions["timeout"]["read"])
        raise httpx.ReadTimeout("silent")

    ask(silent, silent, silent, stream(*WHOLE))
    assert patience == [0.6, 1.2, 2.4]


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500])
def test_a_refusal_is_final(status: int) -> None:
    with pytest.raises(CliError, match=r"^too long$") as raised:
        ask(refuse(status, "too long"))
    assert raised.value.exit_code == REFUSED


def test_nobody_answers() -> None:
    with pytest.raises(CliError, match="the pod does not answer: http://a: refused") as raised:
        ask(refused_connection, patience=0.0)
    assert raised.value.exit_code == UNREACHABLE


def test_an_error_that_comes_again_is_the_answer() -> None:
    failing = [
        stream(token("a"), event(error={"message": "no expert", "type": "server_error"})) for _ in range(3)
    ]
    with pytest.raises(CliError, match=r"^no expert$") as raised:
        ask(*failing)
    assert raised.value.exit_code == REFUSED


def test_get_takes_the_first_that_answers() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        return refuse(503, "x") if request.url.host == "a" else httpx.Response(200, json={"ready": True})

    with PodClient([A, B], transport=httpx.MockTransport(handle)) as client:
        assert client.get("/xpod/status") == {"ready": True}
