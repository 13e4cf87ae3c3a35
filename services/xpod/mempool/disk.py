"""Blocks on disk: those that memory has no room for.

One file without a name, written round and round, that is gone with the process. One thread reads and writes, in the
order in which it was asked, so that a place is read before it is written again. Does not know what a block is.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar

import structlog

from xpod_policy.block_log import BlockLog, Extent
from xpod_proto.tensor import Buffer

T = TypeVar("T")
Pieces = Sequence[Buffer]
"""A block's bytes, one piece behind the other."""
log = structlog.get_logger(__name__)


class Disk:
    """At most `budget` bytes in `directory`, which is made for the first block. Without a disk it keeps nothing."""

    def __init__(self, directory: Path, budget: int) -> None:
        self.log = BlockLog(budget)
        self._directory = directory
        self._file: BinaryIO | None = None
        self._thread = ThreadPoolExecutor(1, "disk")

    def __contains__(self, name: bytes) -> bool:
        return name in self.log

    async def write(self, blocks: Mapping[bytes, Pieces]) -> None:
        """Returns once they are written, those that can be; a block that is there already stays where it is."""
        extents = {
            name: extent
            for name, data in blocks.items()
            if (extent := self.log.put(name, sum(map(len, data)))) is not None
        }
        places = [(extent, blocks[name]) for name, extent in extents.items()]
        if places and not await self._do(lambda: self._write(places)):
            self._forget(extents)

    async def take(self, names: Sequence[bytes]) -> dict[bytes, bytes]:
        """The bytes of those that are here, which from now on are not here any more."""
        extents = {name: extent for name in names if (extent := self.log.find(name)) is not None}
        found = await self._do(lambda: self._read(extents)) if extents else {}
        self._forget(extents)  # not before: others may ask for them meanwhile
        return found

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        if self._file is not None:
            self._file.close()

    def _forget(self, extents: Mapping[bytes, Extent]) -> None:
        for name, extent in extents.items():
            if self.log.find(name) == extent:
                self.log.forget(name)

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _write(self, places: Sequence[tuple[Extent, Pieces]]) -> bool:
        try:
            if self._file is None:
                self._directory.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115 - it is kept
            number = self._file.fileno()
            return all(os.pwritev(number, data, extent.offset) == extent.size for extent, data in places)
        except OSError as error:
            log.warning("blocks cannot be kept on disk", directory=str(self._directory), error=str(error))
            return False

    def _read(self, extents: Mapping[bytes, Extent]) -> dict[bytes, bytes]:
        try:
            number = self._file.fileno() if self._file is not None else -1
            return {name: os.pread(number, extent.size, extent.offset) for name, extent in extents.items()}
        except OSError as error:
            log.warning("blocks cannot be read from disk", error=str(error))
            return {}
