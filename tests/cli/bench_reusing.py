"""Pods that run in this process: servers whose answers follow from the prompt, and which say what they knew of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from cli.bench_server import Request, Respond, Server, serving, token, usage
from xpod.cli.bench.pods import Serving
from xpod.cli.reuse import Reuse

Json = dict[str, Any]
BLOCK = 16


@dataclass
class Reusing:
    """Knows the whole blocks of what was said, prompts and answers; with `reuses` false, nothing.

    `offset` shifts what it answers from request `wrong_from` on.
    """

    reuses: bool = True
    offset: int = 0
    wrong_from: int = 0
    known: set[tuple[int, ...]] = field(default_factory=set)

    def __call__(self, request: Request) -> None:
        prompt, count = request.body["prompt"], request.body["max_tokens"]
        wrong = self.offset if request.number >= self.wrong_from else 0
        answer = [(sum(prompt) * 31 + index + wrong) % 997 for index in range(count)]
        chunks = [token(ids=[each]) for each in answer]
        for chunk in chunks if "logprobs" in request.body else ():
            chunk["choices"][0]["logprobs"] = {"token_logprobs": [-0.1 - wrong / 8]}
        chunks[-1]["choices"][0]["finish_reason"] = "length"
        cached = self._cached(prompt)
        self._learn([*prompt, *answer])
        request.say(*chunks, usage(len(prompt), count, cached), "[DONE]")

    def _cached(self, prompt: list[int]) -> int:
        """The last token is always computed."""
        whole = range(BLOCK, len(prompt), BLOCK)
        return max((end for end in whole if tuple(prompt[:end]) in self.known), default=0)

    def _learn(self, tokens: list[int]) -> None:
        if self.reuses:
            self.known |= {tuple(tokens[:end]) for end in range(BLOCK, len(tokens) + 1, BLOCK)}


@dataclass
class FakePods:
    """One server for each router. With `basic`, nothing is reused; `odd` responds where a combination has that name."""

    routers: int = 2
    odd: dict[str, Respond] = field(default_factory=dict)
    started: list[tuple[str, str]] = field(default_factory=list)
    servers: list[list[Server]] = field(default_factory=list)

    @contextmanager
    def running(self, reuse: Reuse) -> Iterator[Serving]:
        respond = self.odd.get(reuse.caching) or Reusing(reuse.caching != "basic")
        with ExitStack() as stack:
            servers = [stack.enter_context(serving(respond)) for _ in range(self.routers)]
            self.started.append((reuse.caching, reuse.routing))
            self.servers.append(servers)
            yield Serving(tuple(server.url for server in servers), workers=1)

    def as_json(self) -> Json:
        return {"fake": True}
