"""Log files that grow, and are replaced when a pod is started anew.

Knows: where they lie, what was read of each. Does not know: what is in a line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from xpod.cli.logs import EARLIER

SUFFIX = ".log"


def members_with_logs(directory: Path) -> list[str]:
    """Whose logs there are."""
    return sorted(path.stem for path in directory.glob(f"*{SUFFIX}"))


class LogFile:
    """One member's file, read on from where the last reading ended; its earlier lines first."""

    def __init__(self, directory: Path, member: str) -> None:
        self._path = directory / f"{member}{SUFFIX}"
        self._earlier = directory / f"{member}{SUFFIX}{EARLIER}"
        self._stream: BinaryIO | None = None
        self._rest = b""

    def lines(self) -> Iterator[str]:
        """Those that were completed since. A file in its place begins anew, after the end of the one before."""
        if self._stream is None:
            yield from self._whole(self._earlier_from(0))
        yield from self._new_lines()
        if self._was_cut():
            assert self._stream is not None
            yield from self._whole(self._earlier_from(self._stream.tell()))
            self._stream.seek(0)
            yield from self._new_lines()
        if self._replaced():
            yield from self._end()
            yield from self._new_lines()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _new_lines(self) -> Iterator[str]:
        if self._stream is None:
            try:
                self._stream = self._path.open("rb")
            except FileNotFoundError:
                return
        yield from self._whole(self._stream.read())

    def _whole(self, data: bytes) -> Iterator[str]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)

    def _earlier_from(self, at: int) -> bytes:
        try:
            with self._earlier.open("rb") as stream:
                stream.seek(at)
                return stream.read()
        except FileNotFoundError:
            return b""

    def _was_cut(self) -> bool:
        """What it said is in the file of earlier lines now, at the same places."""
        return self._stream is not None and os.fstat(self._stream.fileno()).st_size < self._stream.tell()

    def _replaced(self) -> bool:
        if self._stream is None:
            return False
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return not os.path.samestat(os.fstat(self._stream.fileno()), there)

    def _end(self) -> Iterator[str]:
        """The last line of a file that is gone may lack its end."""
        rest, self._rest = self._rest, b""
        self.close()
        if rest:
            yield rest.decode(errors="replace")
