"""A file in memory that one process writes frames to and others read them from.

Knows: a frame's header, mapping, and the lock that says that a file's owner lives.
Does not know: where in it the next frame goes (see `frames_ring`), or what frames hold.

A reader's only write is to put a frame's sequence number into its header: "read". Numbers never come twice, so a
late one means nothing.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from xpod_runtime.errors import FrameLost
from xpod_runtime.frames_ring import LINE, Place, Ring
from xpod_runtime.wire import Pieces

SUFFIX = ".frames"
HEADER = 64
MARGIN = 64
"""Room on each side of what is lent, for the rest of its message."""
_MAGIC = 0x7866_7261_6D65_0001
_HEAD = struct.Struct("<QQQ")  # magic, sequence, length
_NUMBER = struct.Struct("<Q")
_SEQUENCE_AT, _READ_AT = 8, 24
T = TypeVar("T")

if TYPE_CHECKING:  # a command that only wants to know whose a file is starts without the messages
    from xpod_proto import Framed


class Segment:
    """One's own. Raises OSError when the file cannot be made, or memory for all of it is not there."""

    def __init__(self, directory: Path, size: int) -> None:
        self.number, self.path, self._descriptor = _create(directory)
        try:
            os.posix_fallocate(
                self._descriptor, 0, size
            )  # all of it now: a full file system later would be a SIGBUS
            self._map = _mapped(self._descriptor, size)
        except OSError:
            self._remove()
            raise
        self._view = memoryview(self._map)
        self.ring = Ring(size, consumed=self._was_read, withdraw=self._withdraw)

    def write(self, place: Place, pieces: Pieces, size: int) -> None:
        """Puts a frame of `size` bytes in its place."""
        self._withdraw(place)
        self._fill(place.offset + HEADER, pieces)
        self._publish(place, size)

    def lend(self, place: Place, size: int) -> memoryview:
        """The memory of `size` bytes, MARGIN bytes behind the frame's beginning, for whoever makes its message."""
        self._withdraw(place)
        begin = place.offset + HEADER + MARGIN
        return self._view[begin : begin + size]

    def complete(self, place: Place, before: Pieces, lent: int, after: Pieces) -> tuple[int, int]:
        """Puts the rest around the `lent` bytes, at most MARGIN on each side; returns the frame's `skip` and size."""
        head, tail = sum(map(len, before)), sum(map(len, after))
        begin = place.offset + HEADER + MARGIN
        self._fill(begin - head, before)
        self._fill(begin + lent, after)
        self._publish(place, head + lent + tail)
        return MARGIN - head, head + lent + tail

    def drop(self, place: Place) -> None:
        """Nobody gets this frame."""
        self._withdraw(place)
        _NUMBER.pack_into(self._map, place.offset + _READ_AT, place.sequence)

    def _fill(self, at: int, pieces: Pieces) -> None:
        for piece in pieces:
            end = at + len(piece)
            self._view[at:end] = piece
            at = end

    def _publish(self, place: Place, size: int) -> None:
        _NUMBER.pack_into(self._map, place.offset + _READ_AT, 0)
        _HEAD.pack_into(self._map, place.offset, _MAGIC, place.sequence, size)

    def close(self) -> None:
        """Ends it; whoever has it mapped may finish reading."""
        self._view.release()
        with suppress(BufferError):  # somebody still has what was lent; it goes with them
            self._map.close()
        self._remove()

    def _was_read(self, place: Place) -> bool:
        (number,) = _NUMBER.unpack_from(self._map, place.offset + _READ_AT)
        return bool(number == place.sequence)

    def _withdraw(self, place: Place) -> None:
        _NUMBER.pack_into(self._map, place.offset + _SEQUENCE_AT, 0)

    def _remove(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


class ForeignSegment:
    """Another process's. Raises OSError when it cannot be opened."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._map = _mapped(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)
        self._view = memoryview(self._map)

    def read(self, framed: Framed, take: Callable[[memoryview], T]) -> T:
        """What `take` makes of a frame's bytes, which it must copy. Raises FrameLost when the frame is not there."""
        offset, size, sequence = framed.offset, framed.size, framed.sequence
        begin = offset + HEADER + framed.skip
        if (
            offset % LINE
            or min(offset, size, framed.skip) < 0
            or begin + size > len(self._map)
            or sequence <= 0
        ):
            raise FrameLost(f"no frame can be at {offset}")
        self._check(offset, size, sequence)
        try:
            taken = take(self._view[begin : begin + size])
        except Exception:
            self._check(offset, size, sequence)  # overwritten bytes are lost, not bad
            self._mark_read(offset, sequence)
            raise
        self._check(offset, size, sequence)
        self._mark_read(offset, sequence)
        return taken

    def close(self) -> None:
        self._view.release()
        self._map.close()

    def _check(self, offset: int, size: int, sequence: int) -> None:
        if _HEAD.unpack_from(self._map, offset) != (_MAGIC, sequence, size):
            raise FrameLost(f"frame {sequence} is gone")

    def _mark_read(self, offset: int, sequence: int) -> None:
        _NUMBER.pack_into(self._map, offset + _READ_AT, sequence)


def is_orphan(path: Path) -> bool:
    """Whether the owner of this segment is dead; its lock then is free."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"{number:016x}{SUFFIX}"


def _create(directory: Path) -> tuple[int, Path, int]:
    """A new file with our lock on it. Who clears up after the dead may take one away before it is locked."""
    while True:
        number = secrets.randbits(64)
        path = segment_path(directory, number)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return number, path, descriptor
        os.close(descriptor)


def _mapped(descriptor: int, size: int) -> mmap.mmap:
    return mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))
