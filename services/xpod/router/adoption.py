"""Responses in the background whose router died: another one goes on with them, though nobody asks.

Knows: when to look for them. Does not know: how one goes on with a response, or who becomes its owner (see
`response_shelf`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from starlette.exceptions import HTTPException

from xpod.common.view import PodView
from xpod.router.api.responses.desk import Desk
from xpod.router.response_shelf import ResponseShelf
from xpod_policy.membership import Change
from xpod_runtime.errors import StoreError

log = structlog.get_logger(__name__)
LOOK_SECONDS = 5.0
"""Where no router is known to have died; ours may have been another process."""
SOON_SECONDS = 0.5
"""While the pod is not ready."""


class Adoption:
    """Looks every few seconds, and as soon as a router is gone; not while the pod is not `ready`, as far as we see."""

    def __init__(self, shelf: ResponseShelf, desk: Desk, view: PodView, ready: Callable[[], bool]) -> None:
        self._ready = ready
        self._shelf = shelf
        self._desk = desk
        self._view = view
        self._gone = asyncio.Event()

    async def on_member(self, change: Change) -> None:
        """Somebody came or went."""
        if change.member.kind == "router" and (not change.member.alive or change.reborn):
            self._gone.set()

    async def watch(self) -> None:
        """Look after them, for ever."""
        while True:
            await self.look()
            try:
                async with asyncio.timeout(LOOK_SECONDS if self._ready() else SOON_SECONDS):
                    await self._gone.wait()
            except TimeoutError:
                continue
            self._gone.clear()

    async def look(self) -> None:
        """Go on with all that nobody runs. What cannot go on now is looked at again the next time."""
        if not self._ready():
            return
        try:
            for id in await self._shelf.orphans(self._lives, self._desk.runs):
                try:
                    await self._desk.adopt(id)
                except HTTPException as error:
                    log.info("a response is not adopted yet", response=id, error=error.detail)
        except StoreError as error:
            log.info("no responses can be adopted now", error=str(error))

    def _lives(self, router: str) -> bool:
        return any(member.name == router for member in self._view.usable("router"))
