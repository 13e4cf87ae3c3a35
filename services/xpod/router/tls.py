"""HTTPS: a certificate and its key, read again when they change.

Knows: files and TLS contexts. Does not know: who listens.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path

import structlog

from xpod_runtime.errors import ConfigError

log = structlog.get_logger(__name__)
LOOK_SECONDS = 5.0


class Certificate:
    """A server's. New connections get the newest that could be read."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises ConfigError: the files are not there, or are no pair."""
        self._certificate, self._key = certificate, key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._mark = self._marks()
        self._load()

    async def watch(self, seconds: float = LOOK_SECONDS) -> None:
        """Look for a renewed one, for ever."""
        while True:
            await asyncio.sleep(seconds)
            self.look()

    def look(self) -> None:
        """Read it again if it has changed; one that is no good is told of, and the one before stays."""
        mark = self._marks()
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self._load()
        except ConfigError as error:
            log.warning("the TLS certificate stays as it was", error=str(error))
        else:
            log.info("TLS certificate read", certificate=str(self._certificate))

    def _load(self) -> None:
        try:
            trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            trial.load_cert_chain(self._certificate, self._key, password=_no_password)
            self.context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except ssl.SSLError as error:
            what = error.reason or "no PEM"
            raise ConfigError(
                f"{self._certificate} and {self._key} are no certificate and its key: {what}"
            ) from None
        except OSError as error:
            raise ConfigError(f"{self._certificate}, {self._key}: {error.strerror}") from None
        except ValueError as error:
            raise ConfigError(f"{self._key}: {error}") from None

    def _marks(self) -> list[tuple[int, int]]:
        marks = []
        for path in (self._certificate, self._key):
            try:
                told = os.stat(path)
            except OSError:
                marks.append((0, 0))
            else:
                marks.append((told.st_mtime_ns, told.st_ino))
        return marks


def certificate_of(certificate: str, key: str) -> Certificate | None:
    """None where there is none. Raises ConfigError."""
    if bool(certificate) != bool(key):
        raise ConfigError("--tls-cert and --tls-key belong together")
    return Certificate(Path(certificate), Path(key)) if certificate else None


def _no_password() -> bytes:
    raise ValueError("a key with a password cannot be read")
