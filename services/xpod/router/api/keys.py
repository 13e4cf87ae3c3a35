"""Who may ask: keys of the settings, and keys in a file, which may change while the router runs.

Knows: how a key is found, and that each has an account with limits. Does not know: HTTP.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import structlog

from xpod_policy.rate_limits import Account, Limits
from xpod_runtime.api_keys import StoredKey, id_of, read_keys
from xpod_runtime.errors import ConfigError

log = structlog.get_logger("xpod.router.api")
LOOK_SECONDS = 1.0
Mark = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Holder:
    """Whoever has a key. `tenant` names them, the same at every router with the same keys; empty: all are one."""

    tenant: bytes
    account: Account | None = None


class Keys:
    """All keys of a router. With a `file`, only who has a key gets in, whatever becomes of the file."""

    def __init__(
        self, plain: tuple[str, ...] = (), file: Path | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        """Raises ConfigError where the file cannot be read."""
        self.clock = clock
        self._plain = [key.encode() for key in plain]
        self._file = file
        self._stored: dict[str, StoredKey] = {}
        self._accounts: dict[str, Account] = {}
        self._mark: Mark | None = None
        self._looked = clock()
        if file is not None:
            self._mark = _mark(file)
            self._take(read_keys(file))

    @property
    def needed(self) -> bool:
        """Is there a door at all?"""
        return bool(self._plain) or self._file is not None

    def find(self, given: str) -> Holder | None:
        """Who that is; None: nobody."""
        self._look()
        stored = self._stored.get(id_of(given))
        if stored is not None and stored.opens(given):
            return Holder(f"id:{stored.id}".encode(), self._accounts[stored.id])
        coded = given.encode()
        found = [key for key in self._plain if hmac.compare_digest(coded, key)]
        if not found:
            return None
        return Holder(found[0] if len(self._plain) > 1 or self._file is not None else b"")

    def _look(self) -> None:
        """Has the file changed?"""
        now = self.clock()
        if self._file is None or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        mark = _mark(self._file)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._take(read_keys(self._file) if mark is not None else ())
        except ConfigError as error:
            log.warning("the API keys stay as they were", error=str(error))
        else:
            log.info("API keys read", keys=len(self._stored))

    def _take(self, keys: tuple[StoredKey, ...]) -> None:
        now = self.clock()
        self._stored = {key.id: key for key in keys}
        for key in keys:
            limits = Limits(key.requests_per_minute, key.tokens_per_minute, key.concurrent)
            if key.id in self._accounts:
                self._accounts[key.id].change(limits, now)
            else:
                self._accounts[key.id] = Account(limits, now)
        self._accounts = {id: self._accounts[id] for id in self._stored}


def _mark(file: Path) -> Mark | None:
    """What is another after a change; None: there is no file."""
    try:
        told = os.stat(file)
    except OSError:
        return None
    return told.st_mtime_ns, told.st_ino, told.st_size
