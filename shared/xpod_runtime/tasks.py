"""Short tasks that nobody awaits, kept until they end and cancelled together.

Knows: asyncio tasks. Does not know: what they do; errors are the coroutine's own to handle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """asyncio holds tasks weakly: this set keeps them alive."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts `work` in its turn: tasks begin in the order of their spawning."""
        task = self._loop.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def cancel(self) -> None:
        """Cancels all but the caller and waits for their end."""
        others = self._running - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
