"""Frames: messages that pass between processes of one host in memory, with a small `Framed` on the bus to say so.

Knows: who is near (shares the directory), one's own memory and that of others.
Does not know: the bus. Used from one thread, but for `meet` and `forget`. A process may have several of these.

What cannot be a frame goes over the bus as ever. A frame that is gone when its reader comes raises FrameLost: other
bytes than the sender's are never read. Source: the doorbell over shared memory of XCCL (xDeepServe, 2508.02520).
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import structlog

from xpod_proto import DecodeError, Framed, Message, decode, size_of
from xpod_proto.tensor import Buffer
from xpod_runtime.config import ServiceConfig
from xpod_runtime.errors import FrameLost
from xpod_runtime.frames_arena import Arena, Lent, Room
from xpod_runtime.frames_directory import host_token, sweep
from xpod_runtime.frames_segment import ForeignSegment, segment_path
from xpod_runtime.wire import Pieces

FRAME_MIN = 48 * 1024
"""Bytes from which a frame is quicker than the bus. Measured: even at 64 KiB, three times as quick at 256 KiB."""
DOUBT_SECONDS = 10.0
log = structlog.get_logger(__name__)


class Frames:
    """Raises OSError when `directory` cannot be used. `close` gives the memory back."""

    def __init__(self, directory: Path, *, least: int = FRAME_MIN, room: Room | None = None) -> None:
        self.token = host_token(directory)
        self._mark = f"~{self.token}"
        self._directory = directory
        self._least = least
        self._near: dict[str, float] = {}
        """Subjects, and from when on they get frames."""
        self._theirs: dict[int, ForeignSegment] = {}
        self._barred = False
        self._lent: Lent | None = None
        sweep(directory)
        self._arena = Arena(directory, room or Room())

    def close(self) -> None:
        self._near.clear()
        self._lent = None
        self._arena.close()
        while self._theirs:
            self._theirs.popitem()[1].close()

    # -- who is near ------------------------------------------------------------------------------------

    def meet(self, subject: str, token: str) -> None:
        """Whoever listens at `subject` has this token: an equal one means that frames reach it."""
        if token == self.token:
            self._near.setdefault(subject, 0.0)
        else:
            self._near.pop(subject, None)

    def forget(self, subject: str) -> None:
        self._near.pop(subject, None)

    def doubt(self, subject: str) -> None:
        """Whoever listens there could not read a frame: it gets none for a while."""
        if subject in self._near:
            self._near[subject] = time.monotonic() + DOUBT_SECONDS

    def limit(self, subject: str) -> int:
        """Bytes that fit into a frame for whoever listens at `subject`; 0 when it is far, or in doubt."""
        trusted = self._near.get(subject, math.inf) <= time.monotonic()
        return self._arena.room.segment if trusted and not self._barred else 0

    @property
    def mark(self) -> str:
        """The end of a reply subject whose answer may be a frame."""
        return "" if self._barred else self._mark

    # -- frames -----------------------------------------------------------------------------------------

    def put(self, subject: str, pieces: Pieces) -> Framed | None:
        """A frame for whoever listens at `subject`; None when it is far, the bytes are few or there is no room."""
        lent, self._lent = self._lent, None
        if lent is not None and (framed := lent.complete(pieces)) is not None:
            return framed
        if lent is not None:
            lent.drop()
        size = size_of(pieces)
        return self._arena.put(pieces, size) if self._frames_go(subject, size) else None

    def lend(self, subject: str, size: int) -> memoryview | None:
        """Memory for the larger part of the next message, which goes to `subject`; None when it is not to be a frame.

        What is put next is that message or lets the memory go.
        """
        if self._lent is not None:
            self._lent.drop()
            self._lent = None
        if self._frames_go(subject, size):
            self._lent = self._arena.lend(size)
        return None if self._lent is None else self._lent.view

    def _frames_go(self, subject: str, size: int) -> bool:
        if size < self._least:
            return False
        since = self._near.get(subject)
        return subject.endswith(self._mark) if since is None else since <= time.monotonic()

    def decode(self, data: Buffer) -> Message:
        """The message in `data`, or in the frame that it points to, whose place is then free.

        Raises FrameLost, and DecodeError for what is not a message.
        """
        message = decode(data)
        return self._read(message) if isinstance(message, Framed) else message

    def _read(self, framed: Framed) -> Message:
        segment = self._theirs.get(framed.segment) or self._open(framed.segment)
        message = segment.read(framed, decode)
        if isinstance(message, Framed):
            raise DecodeError("a frame in a frame")
        return message

    def _open(self, number: int) -> ForeignSegment:
        self._leave_the_dead()
        path = segment_path(self._directory, number)
        try:
            segment = ForeignSegment(path)
        except FileNotFoundError:
            raise FrameLost(f"the sender of frames in {path.name} is gone") from None
        except (OSError, ValueError) as error:  # this will not mend itself: no more answers in frames
            self._barred = True
            raise FrameLost(f"{path.name} cannot be opened: {error}") from None
        self._theirs[number] = segment
        return segment

    def _leave_the_dead(self) -> None:
        gone = [number for number in self._theirs if not segment_path(self._directory, number).exists()]
        for number in gone:
            self._theirs.pop(number).close()


class NoFrames:
    """What a process does that shares no memory."""

    token = mark = ""

    def meet(self, subject: str, token: str) -> None:
        """Nobody is near."""

    def forget(self, subject: str) -> None:
        """Nobody was."""

    def doubt(self, subject: str) -> None:
        """It gets none anyway."""

    def limit(self, subject: str) -> int:
        return 0

    def put(self, subject: str, pieces: Pieces) -> None:
        """All goes over the bus."""

    def lend(self, subject: str, size: int) -> None:
        """It would have to be copied anyway."""

    def decode(self, data: Buffer) -> Message:
        message = decode(data)
        if isinstance(message, Framed):
            raise FrameLost("no memory is shared with this process")
        return message

    def close(self) -> None:
        """There is nothing to give back."""


def frames_of(config: ServiceConfig) -> Frames | None:
    """As the settings say; None, and a line in the log, when the directory cannot be used."""
    if not config.frames:
        return None
    try:
        return Frames(Path(config.frames))
    except OSError as error:
        log.warning("no frames: all goes over the bus", directory=config.frames, error=str(error))
        return None
