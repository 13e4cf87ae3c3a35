"""Where responses are asked for: begun, found, gone on with, cancelled, deleted.

Knows: which run here, that others are on the shelf, and that those which have not ended go on when they are asked
for. Does not know: HTTP, or how anything is told.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

import structlog

from xpod.router.api.affinity import owner_of
from xpod.router.api.allowance import Allowance
from xpod.router.api.choice import Choice
from xpod.router.api.context import Api
from xpod.router.api.engine_protocol import Affinity, Claim, KeyReused
from xpod.router.api.errors import ApiError, bad_request, of_engine
from xpod.router.api.idempotency import Key, digest_of
from xpod.router.api.request_trace import request_trace
from xpod.router.api.responses.opening import Opened, Past, opened
from xpod.router.api.responses.record import PREFIX, Kept, Record, Shelf
from xpod.router.api.responses.request import RESPONSE_ID, ResponsesRequest
from xpod.router.api.responses.run import Run
from xpod.router.api.responses.telling import choice_of, pieces_of
from xpod_runtime.errors import StoreError, XpodError

log = structlog.get_logger("xpod.router.api")
NO_LOGPROBS = 2**31 - 1
"""A client that wants none has them all, whatever the token."""
LOOK_SECONDS = 0.25
_ID = re.compile(RESPONSE_ID)


class Desk:
    """All responses, as one router has them; without a shelf none is kept."""

    def __init__(self, api: Api, shelf: Shelf | None) -> None:
        self._api = api
        self._shelf = shelf
        self._runs: dict[str, Run] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._watching: set[asyncio.Task[None]] = set()

    def runs(self, id: str) -> bool:
        """Does it run here, or is it about to?"""
        return id in self._runs or id in self._locks

    # beginning

    async def create(
        self,
        request: ResponsesRequest,
        tenant: bytes,
        key: Key | None,
        arrived: float,
        *,
        allowance: Allowance | None = None,
    ) -> Run:
        """Begin it; or find what an equal request with the same key began. Raises ApiError."""
        kept = self._keeps(request)
        id = PREFIX + (secrets.token_hex(12) if key is None else key.session(0)[1:])
        async with self._lock(id):
            if key is not None and (found := await self._again(id, request)) is not None:
                return found
            made = await opened(self._api, request, tenant, key, await self._past(request, tenant))
            record = Record(
                id=id,
                tenant=made.affinity.tenant,
                created=time.time(),
                digest=digest_of(request),
                prompt=made.prompt,
                sampling=made.sampling,
                salt=made.affinity.salt,
                model=made.model,
                request=request,
                history=made.history,
                kept=kept,
            )
            record = self._fitting(record)
            return await self._begin(record, made, key is not None, arrived, allowance=allowance)

    def _fitting(self, record: Record) -> Record:
        """The record, not to be kept where it is too large and nobody insists on it. Raises ApiError."""
        if self._shelf is None or not record.kept or self._shelf.fits(record):
            return record
        if record.request.background or record.request.store:
            name = "background" if record.request.background else "store"
            raise bad_request(f"{name}: the request is too large to be kept", name, "too_large_to_keep")
        return replace(record, kept=False)

    def _keeps(self, request: ResponsesRequest) -> bool:
        if self._shelf is not None:
            return request.store is not False
        for name in ("background", "store", "previous_response_id"):
            if getattr(request, name):
                raise bad_request(f"{name}: this router keeps no responses", name, "unsupported_value")
        return False

    async def _again(self, id: str, request: ResponsesRequest) -> Run | None:
        """What was begun under that id. Raises ApiError: it was another request."""
        run = self._runs.get(id)
        try:
            found = None if run is not None or self._shelf is None else await self._shelf.find(id)
        except StoreError as error:
            raise of_engine(error) from error
        record = run.record if run is not None else found.record if found is not None else None
        if record is None:
            return None
        if record.digest != digest_of(request):
            raise of_engine(KeyReused("this Idempotency-Key came with another request before"))
        return run if run is not None or found is None else await self._taken_up(found)

    async def _past(self, request: ResponsesRequest, tenant: bytes) -> Past | None:
        """What came before. Raises ApiError."""
        id, name = request.previous_response_id, "previous_response_id"
        if id is None:
            return None
        code = "previous_response_not_found"
        try:
            kept = await self._found(id, tenant)
        except ApiError as error:
            if error.status_code != 404:
                raise
            raise bad_request(f"{name}: there is no response {id}, or none any more", name, code) from error
        run = self._runs.get(id)
        if kept.end is None and (run is None or run.end is None):
            raise bad_request(f"{name}: {id} has not ended", name, "previous_response_not_ended")
        run = run or await self._run_of(kept)
        await run.ended()
        return Past.of(run, self._api.text)

    async def _begin(
        self, record: Record, made: Opened, keyed: bool, arrived: float, *, allowance: Allowance | None
    ) -> Run:
        if allowance is not None:
            allowance.ask(len(record.prompt))
        api, request, shelf = self._api, record.request, self._shelf if record.kept else None
        request_trace().prepared()
        lasting = request.background or keyed
        claim = Claim(record.session, record.digest, _start(record), lasting=lasting, fresh=not keyed)
        try:
            session = await api.engine.open(list(record.prompt), record.sampling, claim, made.affinity)
        except XpodError as error:
            raise of_engine(error) from error
        spend = None if allowance is None else allowance.spend
        meter = api.metrics.meter(len(record.prompt), record.sampling.max_tokens, arrived, spend)
        choice = choice_of(record, api.text, session, meter)
        request_trace().opened([choice], record.model, len(record.prompt))
        request_trace().named(record.id)
        if shelf is not None and request.background:
            try:
                other = await shelf.begin(record)
            except BaseException as error:
                await session.cancel()
                await choice.close("error")
                if isinstance(error, XpodError):
                    raise of_engine(error) from error
                raise
            record = record if other is None else other.record
        run = Run(record, lasting=lasting)
        later = shelf is not None and not request.background
        begun = run.insist(lambda: shelf.begin(record)) if shelf is not None and later else None
        return self._start(run, choice, begun)

    def _start(self, run: Run, choice: Choice, begun: Coroutine[Any, Any, object] | None = None) -> Run:
        self._runs[run.record.id] = run
        run.start(choice, self._api.text, self._shelf if run.record.kept else None, begun)
        task = asyncio.create_task(self._until_over(run))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)
        return run

    async def _until_over(self, run: Run) -> None:
        await run.ended()
        if run.end is not None:
            await run.kept()
        if self._runs.get(run.record.id) is run:
            del self._runs[run.record.id]

    # finding

    async def find(self, id: str, tenant: bytes, *, patient: bool) -> Run:
        """The response; where it has not ended, it goes on here. Raises ApiError.

        Who is not `patient` is told what is known: a pod that cannot go on with it now is no reason to refuse.
        """
        kept = await self._found(id, tenant)
        try:
            run = await self._run_of(kept)
        except ApiError as error:
            if patient or error.status_code not in (429, 503):
                raise
            return Run(kept.record, lasting=True)
        if not patient:
            await run.looked(LOOK_SECONDS)
        return run

    async def record(self, id: str, tenant: bytes) -> Record:
        """How the response began. Raises ApiError."""
        return (await self._found(id, tenant)).record

    async def _found(self, id: str, tenant: bytes) -> Kept:
        run = self._runs.get(id)
        if _ID.fullmatch(id) is None:  # wildcards among them
            raise self._unknown(id)
        try:
            kept = None if self._shelf is None else await self._shelf.find(id)
        except StoreError as error:
            if run is None:
                raise of_engine(error) from error
            kept = Kept(run.record)
        if kept is None and run is not None and run.begins:
            kept = Kept(run.record)
        if kept is None or kept.record.tenant != owner_of(tenant):
            raise self._unknown(id)
        return kept

    def _unknown(self, id: str) -> ApiError:
        seconds = 0 if self._shelf is None else self._shelf.seconds
        why = f"it never was, or was deleted, or is another key's, or is gone: responses are kept for {seconds:g} s"
        return ApiError(
            404, f"there is no response {id}: {why}", param="response_id", code="response_not_found"
        )

    async def _run_of(self, kept: Kept) -> Run:
        async with self._lock(kept.record.id):
            run = self._runs.get(kept.record.id)
            return await self._taken_up(kept) if run is None or run.forsaken else run

    async def _taken_up(self, kept: Kept) -> Run:
        """What is kept, where that is all; else go on with it, wherever it is by now. Raises ApiError."""
        api, record = self._api, kept.record
        if kept.told and kept.end is not None:
            return Run.over(record, pieces_of(record, api.text, kept.outputs), kept.end)
        claim = Claim(record.session, record.digest, _start(record), lasting=True)
        conversation = record.request.prompt_cache_key or record.request.user or ""
        ties = Affinity(record.salt, conversation, record.tenant, record.request.priority)
        try:
            session = await api.engine.open(list(record.prompt), record.sampling, claim, ties)
        except XpodError as error:
            raise of_engine(error) from error
        return self._start(Run(record, lasting=True), choice_of(record, api.text, session))

    async def adopt(self, id: str) -> None:
        """Go on with one whose router is gone. Raises ApiError, StoreError."""
        assert self._shelf is not None
        kept = await self._shelf.find(id)
        if kept is None:
            await self._shelf.drop(id)
        elif kept.end is not None:
            await self._shelf.finish(kept.record, kept.end, ())
        else:
            log.info("response adopted", response=id)
            await self._run_of(kept)

    # ending

    async def cancel(self, id: str, tenant: bytes) -> Run:
        """Cancel it, if it has not ended; it runs in the background. Raises ApiError."""
        kept = await self._found(id, tenant)
        if not kept.record.request.background:
            why = "only one that runs in the background can be cancelled; for others, close the connection"
            raise bad_request(f"{id}: {why}", "response_id", "not_in_background")
        run = await self._run_of(kept)
        if run.end is not None:
            return run
        await self._stop(run)
        return await self._run_of(await self._found(id, tenant)) if run.end is None else run

    async def delete(self, id: str, tenant: bytes) -> None:
        """Forget it, and end it where it runs. Raises ApiError."""
        kept = await self._found(id, tenant)
        assert self._shelf is not None
        try:
            if kept.end is None:
                await self._stop(await self._run_of(kept))
            await self._shelf.drop(id)
        except StoreError as error:
            raise of_engine(error) from error
        self._runs.pop(id, None)

    async def _stop(self, run: Run) -> None:
        """End it wherever it runs; who says first how far it came is right."""
        await self._api.engine.cancel(run.record.session)
        await run.ended()

    def _lock(self, id: str) -> asyncio.Lock:
        return self._locks.setdefault(id, asyncio.Lock())


def _start(record: Record) -> int:
    """From which token on logprobs are wanted."""
    return 0 if record.request.logprobs else NO_LOGPROBS
