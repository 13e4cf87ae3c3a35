"""Segment files in a directory: what the disk's one thread does, and nobody else.

A directory belongs to one process at a time, by a lock. Where it cannot be used, or is full, what was to be kept is
not, and a warning says so. Does not know which segment is wanted for how long.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from xpod.mempool.records import FILE_HEAD, HEADER_BYTES, header_of, mark_dead, read_block, records_of
from xpod.mempool.stored import Stored
from xpod_policy.segments import Place, Plan

SUFFIX = ".kv"
log = structlog.get_logger(__name__)


class Found(NamedTuple):
    """A segment of a former process: its bytes, and its blocks that are still wanted."""

    number: int
    used: int
    records: list[tuple[bytes, Place]]


class Files:
    """The directory is made for the first block, and not before."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[int, int] = {}
        self._lock: int | None = None
        self._to_drop: set[int] = set()
        self._complaint = ""

    def scan(self) -> list[Found]:
        """What a former process left, in the order of numbers; torn ends are cut off, and other files removed."""
        try:
            if not self._directory.is_dir():
                return []
            self._take_lock()
            paths = sorted(self._directory.glob(f"*{SUFFIX}"))
        except OSError as error:
            self._complain("blocks on disk cannot be used", error)
            return []
        return [found for path in paths if (found := self._scan_file(path)) is not None]

    def write(self, work: Sequence[tuple[Plan, bytes, Stored]]) -> set[bytes]:
        """Carry out the plans, in order; the names of the blocks that are not on disk."""
        failed: set[bytes] = set()
        for plan, name, block in work:
            self._to_drop.update(plan.dropped)
            try:
                self._drop_now()  # as long as that fails, nothing is written: the budget holds
                self._append(plan.place, (header_of(name, block), block.data))
            except OSError as error:
                self._complain("blocks cannot be kept on disk", error)
                failed.add(name)
            else:
                failed.discard(name)
        return failed

    def read(self, places: Mapping[bytes, Place]) -> dict[bytes, Stored]:
        """The sound ones."""
        found = {}
        for name, place in places.items():
            file = self._files.get(place.segment)
            try:
                block = None if file is None else read_block(file, place.offset, name, place.size)
            except OSError as error:
                self._complain("blocks cannot be read from disk", error)
                continue
            if block is not None:
                found[name] = block
        return found

    def forget(self, places: Mapping[bytes, Place]) -> None:
        """A scan is not to find these."""
        for name, place in places.items():
            file = self._files.get(place.segment)
            try:
                if file is not None:
                    mark_dead(file, place.offset, name)
            except OSError as error:
                self._complain("blocks cannot be deleted from disk", error)

    def drop(self, numbers: Iterable[int]) -> None:
        """Remove these segments, now or with the next write."""
        self._to_drop.update(numbers)
        try:
            self._drop_now()
        except OSError as error:
            self._complain("blocks cannot be deleted from disk", error)

    def close(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:012d}{SUFFIX}"

    def _take_lock(self) -> None:
        """Raises BlockingIOError where another process has it."""
        lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise
        self._lock = lock

    def _scan_file(self, path: Path) -> Found | None:
        number = int(path.stem) if path.stem.isdecimal() else -1
        try:
            file = os.open(path, os.O_RDWR)
            if self._path(number) == path and os.pread(file, len(FILE_HEAD), 0) == FILE_HEAD:
                return self._found(number, file)
            os.close(file)
            path.unlink()
        except OSError as error:
            self._complain("blocks on disk cannot be used", error)
            self._to_drop.add(number)
        return None

    def _found(self, number: int, file: int) -> Found:
        records, used = [], len(FILE_HEAD)
        for offset, header in records_of(file):
            used = offset + HEADER_BYTES + header.size
            if header.alive:
                records.append((header.name, Place(number, offset, header.size)))
        os.ftruncate(file, used)
        self._files[number] = file
        return Found(number, used, records)

    def _append(self, place: Place, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        if self._lock is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            for path in self._directory.glob(f"*{SUFFIX}"):  # of somebody who came and left since the scan
                path.unlink()
        file = self._files.get(place.segment)
        if file is None:
            file = os.open(self._path(place.segment), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            self._files[place.segment] = file
            self._write(file, (FILE_HEAD,), 0)
        self._write(file, pieces, place.offset)

    def _write(self, file: int, pieces: Sequence[bytes | bytearray | memoryview], offset: int) -> None:
        if os.pwritev(file, pieces, offset) != sum(map(len, pieces)):
            raise OSError("the disk took only a part of a block")

    def _drop_now(self) -> None:
        for number in list(self._to_drop):
            self._path(number).unlink(missing_ok=True)
            file = self._files.pop(number, None)
            if file is not None:
                os.close(file)
            self._to_drop.discard(number)

    def _complain(self, what: str, error: OSError) -> None:
        if str(error) != self._complaint:  # a full disk is told of once, and not for each block
            self._complaint = str(error)
            log.warning(what, directory=str(self._directory), error=str(error))
