"""The server that is measured: its URLs, the name of its model, and which extensions it takes.

Knows: the bodies of both completion endpoints; how to find out what a server refuses.
Does not know: how often it is asked, or what is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import httpx

from xpod.cli.bench.workload import Job
from xpod.cli.errors import BAD_USAGE, REFUSED, CliError
from xpod.cli.readiness import reason_of

Endpoint = Literal["completions", "chat"]
PATHS: dict[Endpoint, str] = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}
EXTENSIONS: dict[str, Any] = {
    "return_token_ids": True,
    "ignore_eos": True,
    "stream_options": {"include_usage": True},
}
"""Asked for where the server takes them, given up in this order."""
CACHE_KEY = "prompt_cache_key"
"""An extension for conversations alone: its value is the job's, and a job without one says nothing."""
REFUSALS = frozenset({400, 422})
ELSEWHERE = frozenset({502, 503})


@dataclass(frozen=True, slots=True)
class Target:
    """Requests go to the URLs in turn."""

    urls: tuple[str, ...]
    endpoint: Endpoint
    model: str
    temperature: float
    extensions: tuple[str, ...] = tuple(EXTENSIONS)

    def url(self, index: int) -> str:
        return self.urls[index % len(self.urls)] + PATHS[self.endpoint]

    def body(self, job: Job) -> dict[str, Any]:
        asked = {"max_tokens": job.output_tokens, "temperature": self.temperature, "stream": True}
        named = {"model": self.model} if self.model else {}
        extensions = {name: EXTENSIONS[name] for name in self.extensions if name in EXTENSIONS}
        keyed = {CACHE_KEY: job.cache_key} if CACHE_KEY in self.extensions and job.cache_key else {}
        return named | self._prompt(job) | asked | extensions | keyed

    def _prompt(self, job: Job) -> dict[str, Any]:
        if self.endpoint == "completions":
            return {"prompt": job.prompt}
        return {"messages": [{"role": "user", "content": job.prompt}]}


def checked_urls(urls: Sequence[str]) -> tuple[str, ...]:
    """Without `/v1`, which clients of OpenAI's API have at the end. Raises CliError for what is no URL."""
    for url in urls:
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise CliError(f"--url: {url!r} is not a URL: {error}", BAD_USAGE) from error
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise CliError(f"--url: {url!r} is not of the form http://host:port", BAD_USAGE)
    if not urls:
        raise CliError("--url: no URL given", BAD_USAGE)
    return tuple(url.removesuffix("/v1") for url in urls)


async def negotiated(http: httpx.AsyncClient, target: Target, probe: Job) -> Target:
    """The target with its model's name, and the extensions that it takes: found out by asking for one answer.

    Raises CliError: unreachable where no URL answers, refused where the request is refused without extensions too.
    """
    target = target if target.model else replace(target, model=await _first_model(http, target.urls))
    refusal = ""
    while True:
        answer = await _first_answer(http, target, probe)
        if answer.status_code == httpx.codes.OK:
            return target
        refusal = refusal or f"{answer.url} refuses (HTTP {answer.status_code}): {reason_of(answer)}"
        if answer.status_code not in REFUSALS or not target.extensions:
            raise CliError(refusal, REFUSED)
        target = replace(target, extensions=_without_one(target.extensions, answer.text))


async def asked_for_json(http: httpx.AsyncClient, url: str) -> Mapping[str, Any]:
    """A JSON object that a server may or may not offer; empty where not. Raises httpx.TransportError."""
    answer = await http.get(url)
    try:
        found = answer.json() if answer.status_code == httpx.codes.OK else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


async def _first_model(http: httpx.AsyncClient, urls: Sequence[str]) -> str:
    """The first model that a server lists; empty where none lists any: then requests name none."""
    lost = ""
    for url in urls:
        try:
            listed = (await asked_for_json(http, f"{url}/v1/models")).get("data")
        except httpx.TransportError as error:
            lost = lost or f"{url} does not answer: {str(error) or type(error).__name__}"
            continue
        first = listed[0] if isinstance(listed, list) and listed else {}
        return str(first.get("id", "")) if isinstance(first, dict) else ""
    raise CliError(lost)


async def _first_answer(http: httpx.AsyncClient, target: Target, probe: Job) -> httpx.Response:
    """From the first URL that is there and can serve."""
    lost = ""
    for index, url in enumerate(target.urls):
        try:
            answer = await http.post(target.url(index), json=target.body(probe))
        except httpx.TransportError as error:
            lost = lost or f"{url} does not answer: {str(error) or type(error).__name__}"
            continue
        if answer.status_code not in ELSEWHERE:
            return answer
        lost = lost or f"{url} cannot serve: {reason_of(answer)}"
    raise CliError(lost)


def _without_one(extensions: tuple[str, ...], refusal: str) -> tuple[str, ...]:
    """Without the one that the refusal names, else without the first."""
    named = next((name for name in extensions if name in refusal), extensions[0])
    return tuple(name for name in extensions if name != named)
