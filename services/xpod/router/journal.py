"""The journal of sessions: what a pod that lost all of its processes can go on from.

Knows: when what is written, and that nobody waits for it. Does not know: who reads it why (see `finding`).

Each round writes down the facts of new sessions and what has come together of new tokens, and drops the sessions that
nobody can ask for any more. What the journal lacks is computed again, so a round that fails only makes a later way
longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from xpod.router.session import LiveSession
from xpod.router.wire_tokens import event_of, token_of
from xpod_policy.pages import Pages
from xpod_policy.session import Token
from xpod_proto import SessionFacts, SessionTokens
from xpod_runtime.errors import StoreError
from xpod_runtime.store import Store

log = structlog.get_logger(__name__)
FACTS = "facts"
RECALL_SECONDS = 1.0
REST_SECONDS = 5.0
"""After a round that failed."""
LIFETIME = 3600.0
"""Seconds that pages outlive a router that did not come back to drop them."""


class Journal:
    """On `store`; a round every `every` seconds, with 0 nothing is written."""

    def __init__(self, store: Store, every: float) -> None:
        self._store = store
        self._every = every
        self._pages: dict[str, Pages] = {}
        self._failing = False

    async def watch(self, remembered: Callable[[], Sequence[LiveSession]]) -> None:
        """Round after round, for ever; `remembered` gives all sessions that somebody may ask for."""
        while True:
            await asyncio.sleep(REST_SECONDS if self._failing or not self._every else self._every)
            sessions = remembered()
            if self._every:
                await self.round(sessions)

    async def round(self, sessions: Sequence[LiveSession]) -> None:
        """Write down what is new of `sessions`, and drop what is not among them."""
        work: list[Coroutine[Any, Any, None]] = [
            *(self._write(session) for session in sessions if _worth_keeping(session)),
            *(self._drop(id) for id in self._pages.keys() - {session.id for session in sessions}),
        ]
        failures = [each for each in await asyncio.gather(*work, return_exceptions=True) if each is not None]
        for failure in failures:
            if not isinstance(failure, StoreError):
                raise failure
        if failures and not self._failing:
            log.warning("the journal cannot be written", error=str(failures[0]))
        self._failing = bool(failures)

    async def _write(self, session: LiveSession) -> None:
        pages = self._pages.get(session.id)
        if pages is None:
            facts = session.facts
            message = SessionFacts(session.id, facts.request, facts.prompt, facts.sampling, facts.salt)
            await self._store.put(f"{session.id}.{FACTS}", message)
            pages = self._pages.setdefault(session.id, Pages())
        tokens = session.tokens
        for page, start, stop in pages.due(len(tokens)):
            events = tuple(event_of(session.id, session.epoch, token) for token in tokens[start:stop])
            await self._store.put(f"{session.id}.{page}", SessionTokens(events))
            pages.wrote(stop)

    async def _drop(self, id: str) -> None:
        await self._store.drop(id)
        del self._pages[id]

    async def recall(self, id: str) -> tuple[SessionFacts | None, list[Token]]:
        """What is written of a session; nothing where the store does not answer in time."""
        try:
            async with asyncio.timeout(RECALL_SECONDS):
                found = await self._store.below(id)
        except (StoreError, TimeoutError) as error:
            log.warning("the journal cannot be read", session=id, error=str(error))
            return None, []
        facts = found.pop(FACTS, None)
        pages = [page for page in found.values() if isinstance(page, SessionTokens)]
        tokens = [token_of(event) for page in pages for event in page.tokens]
        return facts if isinstance(facts, SessionFacts) else None, tokens


def _worth_keeping(session: LiveSession) -> bool:
    """Is it ours, and may somebody want more of it than it takes to compute it again?"""
    return not session.follows and (session.facts.lasting or not session.done)
