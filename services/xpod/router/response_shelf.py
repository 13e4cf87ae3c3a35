"""What the pod keeps of responses, and whose they are while they run in the background.

Knows: keys and messages of the store, and how large they may be. Does not know: who asks for a response, or how it is
told. Below a response's name are its `facts`, its `end`, and pages of tokens; what is missing of those is computed
again. Below `running`, each response that runs in the background has its owner.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from xpod.router.api.engine_protocol import Output
from xpod.router.api.responses.record import PREFIX, End, Kept, Record, reopened
from xpod.router.wire_tokens import event_of, token_of
from xpod_policy.session import Token
from xpod_proto import Message, ResponseEnd, ResponseFacts, ResponseOwner, SessionTokens, Tensor
from xpod_proto.codec import encode
from xpod_runtime.store import Store

RUNNING = "running"
OWNER = "owner"
FACTS, END = "facts", "end"
KEYS = 3
"""How many keys most responses take once they have ended."""
MOST_BYTES = 900_000
"""Of one key: a NATS message has 1 MiB at most."""
PAGE_BYTES = 300_000
TOKEN_BYTES, ALTERNATIVE_BYTES = 64, 16
"""What a token with its logprob takes at most, and each alternative to it."""


class ResponseShelf:
    """One router's way to them; see `api.responses.record.Shelf`."""

    def __init__(self, store: Store, router: str, seconds: float) -> None:
        self._store = store
        self._router = router
        self.seconds = seconds

    def fits(self, record: Record) -> bool:
        """See `Shelf`."""
        return len(encode(_facts(record))) <= MOST_BYTES

    async def begin(self, record: Record) -> Kept | None:
        """See `Shelf`."""
        facts = _facts(record)
        if record.request.background:
            await self._store.put(_running(record.id), ResponseOwner(self._router))
        if await self._store.claim(f"{record.name}.{FACTS}", facts, 0) is not None:
            return None
        return await self.find(record.id)

    async def find(self, id: str) -> Kept | None:
        """See `Shelf`."""
        found = await self._store.below(id.removeprefix(PREFIX))
        facts, end = found.pop(FACTS, None), found.pop(END, None)
        if not isinstance(facts, ResponseFacts) or facts.created + self.seconds < time.time():
            return None
        record = _record(facts)
        if not isinstance(end, ResponseEnd):
            return Kept(record)
        outputs = _outputs(found)[: end.tokens]
        said = End(end.status, end.at, end.cached, end.code, end.reason)  # type: ignore[arg-type]
        return Kept(record, said, outputs, whole=len(outputs) == end.tokens)

    async def finish(self, record: Record, end: End, outputs: Sequence[Output]) -> Kept:
        """See `Shelf`."""
        kept = await self.find(record.id)
        if kept is not None and not kept.told:
            await self._put_pages(record, outputs)
            message = ResponseEnd(end.status, end.at, len(outputs), end.cached, end.code, end.reason)
            first = await self._store.claim(f"{record.name}.{END}", message, 0) is not None
            kept = None if first else await self.find(record.id)
        if record.request.background:
            await self._store.drop(f"{RUNNING}.{record.name}")
        return kept or Kept(record, end, outputs, whole=True)

    async def _put_pages(self, record: Record, outputs: Sequence[Output]) -> None:
        step = _page_tokens(record)
        for page, start in enumerate(range(0, len(outputs), step)):
            tokens = outputs[start : start + step]
            events = tuple(event_of(record.session, 0, _token(output)) for output in tokens)
            await self._store.put(f"{record.name}.{page}", SessionTokens(events))

    async def drop(self, id: str) -> None:
        """See `Shelf`."""
        name = id.removeprefix(PREFIX)
        await self._store.drop(f"{RUNNING}.{name}")
        await self._store.drop(name)

    async def orphans(self, lives: Callable[[str], bool], runs: Callable[[str], bool]) -> list[str]:
        """Responses that nobody runs though somebody should; from now on we are the owner.

        `lives` says which other routers are there, `runs` which responses are here.
        """
        ids = []
        for key, owner in (await self._store.below(RUNNING)).items():
            id = PREFIX + key.removesuffix(f".{OWNER}")
            if not isinstance(owner, ResponseOwner) or runs(id):
                continue
            if owner.router == self._router or (not lives(owner.router) and await self._claimed(id, owner)):
                ids.append(id)
        return ids

    async def _claimed(self, id: str, owner: ResponseOwner) -> bool:
        """Do we become the owner after that one?"""
        entry = await self._store.get(_running(id))
        if entry is None or entry.message != owner:
            return False
        return await self._store.claim(_running(id), ResponseOwner(self._router), entry.revision) is not None


def _running(id: str) -> str:
    return f"{RUNNING}.{id.removeprefix(PREFIX)}.{OWNER}"


def _page_tokens(record: Record) -> int:
    return PAGE_BYTES // (TOKEN_BYTES + ALTERNATIVE_BYTES * max(0, record.sampling.logprobs))


def _facts(record: Record) -> ResponseFacts:
    return ResponseFacts(
        record.id,
        record.tenant,
        record.created,
        record.digest,
        Tensor.of_tokens(list(record.prompt)),
        record.sampling,
        record.salt,
        record.body(),
    )


def _record(facts: ResponseFacts) -> Record:
    model, request, history = reopened(facts.body)
    return Record(
        id=facts.id,
        tenant=facts.tenant,
        created=facts.created,
        digest=facts.request,
        prompt=facts.prompt.tolist(),
        sampling=facts.sampling,
        salt=facts.salt,
        model=model,
        request=request,
        history=history,
    )


def _token(output: Output) -> Token:
    return Token(output.index, output.token, output.logprob, output.top, output.finish)


def _outputs(pages: dict[str, Message]) -> list[Output]:
    """All of them that there are without a hole."""
    found = {}
    for page in pages.values():
        for token in map(token_of, page.tokens if isinstance(page, SessionTokens) else ()):
            found[token.index] = Output(
                token.index, token.token, token.logprob or 0.0, token.top, token.finish
            )
    outputs: list[Output] = []
    while (following := found.get(len(outputs))) is not None:
        outputs.append(following)
    return outputs
