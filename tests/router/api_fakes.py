"""An engine that says what a script tells it, and a tokenizer whose tokens are bytes."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx

from xpod.router.api import ApiSettings, Output, make_app
from xpod.router.api.engine_protocol import Affinity, Claim, Score, SessionError, UnknownMember
from xpod.router.response_shelf import ResponseShelf
from xpod_model.errors import TemplateError
from xpod_proto import SamplingSpec
from xpod_runtime.local_store import LocalStore, Shelf
from xpod_runtime.store import Store

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
HI = {"messages": [{"role": "user", "content": "hi"}]}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
EOS = 256
VOCAB = 257
# Exact in fp32, and long in decimal: any rounding on the way shows.
LOGPROB = -1.2345678806304932


class ByteStream:
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int, /) -> str:
        return self._decoder.decode(bytes([token_id])) if token_id < EOS else ""

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class ByteText:
    """Token i is byte i; 256 ends the text."""

    has_template = knows_tools = True
    added_tokens = frozenset[str]()
    call_form = "json"

    def encode(self, text: str, /, *, add_special: bool = True) -> list[int]:
        return list(text.encode())

    def most_characters(self, tokens: int, /) -> int:
        return 4 * tokens

    def decode(self, ids: Sequence[int], /, *, skip_special: bool = True) -> str:
        text = bytes(i for i in ids if i < EOS).decode("utf-8", "replace")
        return text if skip_special else text + "<eos>" * (EOS in ids)

    def apply_chat_template(self, messages: Sequence[dict[str, Any]], /, **kw: Any) -> str:
        if messages[0]["content"] == "refuse me":
            raise TemplateError("chat template: refused")
        turns = "".join(f"<{message['role']}>{message['content']}" for message in messages)
        told = "".join(f"<tool>{tool['function']['name']}" for tool in kw.get("tools") or [])
        return told + turns + ("<assistant>" if kw["add_generation_prompt"] else "")

    def token(self, token_id: int, /) -> str:
        return f"<{token_id}>"

    def token_bytes(self, token_id: int, /) -> bytes:
        return bytes([token_id]) if token_id < EOS else b"<eos>"

    def stream(self) -> ByteStream:
        return ByteStream()


class FakeSession:
    """Says `tokens` one by one; an exception among them is raised, an event is waited for, and `waits` says so."""

    def __init__(self, name: str, script: Sequence[object], sampling: SamplingSpec) -> None:
        self.id = name
        self.cached_tokens = 2
        self.taken = 0.0
        self.recoveries = 1
        self.script = script
        self.sampling = sampling
        self.cancelled = asyncio.Event()
        self.left = asyncio.Event()
        self.stopped = asyncio.Event()
        self.attached = False
        self.waits = asyncio.Event()
        self.given = 0

    async def __aiter__(self) -> AsyncIterator[Output]:
        for step in self.script:
            if isinstance(step, asyncio.Event):
                self.waits.set()
                await self._waited(step)
            elif isinstance(step, Exception):
                raise step
            else:
                assert isinstance(step, int)
                output = self._output(step)
                self.given += 1
                yield output
                if output.finish:
                    return

    async def _waited(self, step: asyncio.Event) -> None:
        ways = [asyncio.ensure_future(event.wait()) for event in (step, self.stopped)]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        if self.stopped.is_set():
            raise SessionError("cancelled", "its client cancelled it")

    def _output(self, token: int) -> Output:
        last = self.given + 1 == self.sampling.max_tokens
        ends = token == EOS and not self.sampling.ignore_eos
        top = tuple((65 + rank, LOGPROB - rank) for rank in range(max(0, self.sampling.logprobs)))
        return Output(self.given, token, LOGPROB, top, "stop" if ends else "length" if last else "")

    async def cancel(self) -> None:
        self.cancelled.set()

    async def leave(self) -> None:
        self.left.set()


class FakeEngine:
    """Every session says `script`; `refusal` is raised instead where it is set."""

    model_name = "fake"
    max_model_len = 100
    vocab_size = VOCAB
    eos_token_ids = (EOS,)
    waiting = 0

    def __init__(self, *script: object) -> None:
        self.script = script
        self.refusal: Exception | None = None
        self.missing = ""
        self.opened: list[tuple[list[int], SamplingSpec]] = []
        self.claims: list[Claim | None] = []
        self.affinities: list[Affinity] = []
        self.sessions: list[FakeSession] = []
        self.scored: list[list[int]] = []
        self.began = asyncio.Event()
        self.members: list[dict[str, Any]] = []
        self.texts: dict[str, str] = {}

    def ready(self) -> tuple[bool, str]:
        return not self.missing, self.missing

    def reaches_pod(self) -> bool:
        return True

    async def open(
        self,
        prompt: list[int],
        sampling: SamplingSpec,
        claim: Claim | None = None,
        affinity: Affinity | None = None,
    ) -> FakeSession:
        if self.refusal is not None:
            raise self.refusal
        session = FakeSession(f"s{len(self.sessions)}", self.script, sampling)
        self.opened.append((prompt, sampling))
        self.claims.append(claim)
        self.affinities.append(affinity or Affinity())
        self.sessions.append(session)
        self.began.set()
        return session

    async def scores(
        self, prompt: list[int], alternatives: int, affinity: Affinity | None = None
    ) -> list[Score]:
        if self.refusal is not None:
            raise self.refusal
        self.scored.append(prompt)
        top = tuple((65 + rank, LOGPROB - rank) for rank in range(alternatives))
        return [Score(LOGPROB - token, top) for token in prompt[1:]]

    async def cancel(self, session: str) -> None:
        for claim, found in zip(self.claims, self.sessions, strict=True):
            if claim is not None and claim.session == session:
                found.stopped.set()

    async def metrics_of(self, member: str) -> str:
        if self.refusal is not None:
            raise self.refusal
        if member not in self.texts:
            raise UnknownMember(f"the pod has no member {member}")
        return self.texts[member]

    def status(self) -> dict[str, Any]:
        return {"pod": "p", "ready": True, "members": self.members}


def says(text: str) -> list[int]:
    """The script of a session that says `text` and ends."""
    return [*text.encode(), EOS]


def shelf_of(store: Store | None = None, router: str = "router-0", seconds: float = 600.0) -> ResponseShelf:
    return ResponseShelf(store or LocalStore(Shelf()), router, seconds)


def app_of(engine: FakeEngine, shelf: ResponseShelf | None = None, **settings: Any) -> Any:
    settings_ = ApiSettings(version="1.2.3", **settings)
    return make_app(engine, ByteText(), settings_, shelf=shelf or shelf_of())


async def post(
    engine: FakeEngine, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
) -> httpx.Response:
    transport = httpx.ASGITransport(app_of(engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as http:
        return await http.post(path, json=body, headers=headers)
