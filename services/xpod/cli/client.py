"""A pod, seen from outside: the HTTP interface of any of its routers.

Knows: the routers' endpoints; when another router may be asked, and when the answer is no.
Does not know: processes, state files, or what is done with the text.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx

from xpod.cli.answer import Answer
from xpod.cli.errors import REFUSED, CliError, ConnectionLost, NotThere, StreamFailed
from xpod.cli.readiness import reason_of
from xpod.cli.sse import ServerEvent, SseParser
from xpod.cli.trust import context, credentials

CONNECT_SECONDS = 3.0
SILENCE_SECONDS = 60.0
"""An answer that is not a stream may take so long."""
KEEP_ALIVE_SECONDS = 0.15
"""A router is asked to say something so often while a stream has nothing to say."""
SHORT_SILENCE_SECONDS = 0.6
"""A stream that is silent for so long has lost its router, or a busy machine is late: each new try waits longer."""
PATIENCE_SECONDS = 15.0
"""A pod that is there and cannot serve, or lost its routers, is asked again for so long."""
RETRY_SECONDS = 0.1
DONE = "[DONE]"
T = TypeVar("T")


NO_ROUTER = "no router of the pod runs on this machine: --url names one elsewhere"


class PodClient:
    """Asks the routers in turn, the last one that answered first."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        patience: float = PATIENCE_SECONDS,
        transport: httpx.BaseTransport | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not endpoints:
            raise ConnectionLost(NO_ROUTER)
        self._endpoints = list(endpoints)
        self._patience = patience
        timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
        self._http = httpx.Client(
            timeout=timeout,
            trust_env=False,
            transport=transport,
            headers={**credentials(), **(headers or {})},
            verify=context(),
        )

    def __enter__(self) -> PodClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.close()

    def get(self, path: str) -> dict[str, Any]:
        """A JSON object from the first router that gives one."""
        return self._first(path, lambda answer: dict(answer.json()))

    def text(self, path: str) -> str:
        """What the first router says that says anything."""
        return self._first(path, lambda answer: answer.text)

    def _first(self, path: str, read: Callable[[httpx.Response], T]) -> T:
        lost = ConnectionLost(NO_ROUTER)
        for url in list(self._endpoints):
            try:
                answer = self._http.get(url + path, timeout=CONNECT_SECONDS)
                if answer.status_code == httpx.codes.OK:
                    found = read(answer)
                    self._endpoints.remove(url)
                    self._endpoints.insert(0, url)
                    return found
                gone = answer.status_code == httpx.codes.NOT_FOUND
                lost = NotThere(reason_of(answer)) if gone else ConnectionLost(f"{url}: {reason_of(answer)}")
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                lost = ConnectionLost(f"{url} does not answer: {error}")
        raise lost

    def stream(
        self,
        path: str,
        body: dict[str, Any],
        show: Callable[[str], None],
        moved: Callable[[str, str], None] = lambda left, to: None,
    ) -> Answer:
        """One completion; `show` gets its text as it comes. A lost router is replaced, and nobody notices.

        `moved` is told which router was left, and which one is asked next.
        `body` must carry a seed: the same request to another router then gives the same tokens.
        """
        assert "seed" in body, "without a seed, a second try would give another answer"
        answer = Answer(started=time.monotonic())
        failures = 0
        silence = SHORT_SILENCE_SECONDS
        deadline = time.monotonic() + self._patience
        while True:
            known = len(answer.arrivals)
            try:
                self._stream_once(path, body, answer, show, silence)
            except ConnectionLost as lost:
                silence = min(SILENCE_SECONDS, 2 * silence)
                if len(answer.arrivals) > known:
                    deadline = time.monotonic() + self._patience
                elif time.monotonic() >= deadline:
                    raise CliError(f"the pod does not answer: {lost.message}") from lost
                moved(*self._next_endpoint())
            except StreamFailed as failed:
                failures += 1
                if failures > len(self._endpoints):
                    raise CliError(failed.message, REFUSED) from failed
                moved(*self._next_endpoint())
            else:
                return answer

    def _stream_once(
        self,
        path: str,
        body: dict[str, Any],
        answer: Answer,
        show: Callable[[str], None],
        silence: float,
    ) -> None:
        url = self._endpoints[0]
        timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, read=silence)
        headers = {"X-Keep-Alive": str(KEEP_ALIVE_SECONDS)}
        if answer.place:
            headers["Last-Event-ID"] = answer.place
        request = self._http.stream("POST", url + path, json=body, timeout=timeout, headers=headers)
        with _lost_if_broken(url), request as response:
            if response.status_code != httpx.codes.OK:
                response.read()
                raise _refusal(url, response)
            if answer.arrivals and answer.place:
                answer.resumed += 1
            elif answer.arrivals:
                answer.restart()
            for event in _events_of(response):
                if event.data == DONE:
                    break
                text = answer.add(json.loads(event.data), time.monotonic())
                answer.place = event.id
                if text:
                    show(text)
        if not answer.complete:
            raise ConnectionLost(f"{url} ended the stream in the middle")

    def _next_endpoint(self) -> tuple[str, str]:
        """Turns to the next router, after a moment; the one before, and the next."""
        left = self._endpoints.pop(0)
        self._endpoints.append(left)
        time.sleep(RETRY_SECONDS)
        return left, self._endpoints[0]


@contextmanager
def _lost_if_broken(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.InvalidURL as error:
        raise CliError(f"{url} is not a URL: {error}") from error
    except (httpx.HTTPError, json.JSONDecodeError) as error:
        raise ConnectionLost(f"{url}: {str(error) or type(error).__name__}") from error


def _refusal(url: str, response: httpx.Response) -> CliError:
    """Service unavailable: another router, or a moment, may help. Anything else is an answer."""
    reason = reason_of(response)
    if response.status_code in {httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE}:
        return ConnectionLost(f"{url}: {reason}")
    return CliError(reason, REFUSED)


def _events_of(response: httpx.Response) -> Iterator[ServerEvent]:
    parser = SseParser()
    for chunk in response.iter_bytes():
        yield from parser.feed(chunk)
