"""Frames between two who share a directory: what is put is read, or known to be lost, and nothing is left."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from xpod_proto import Ack, DecodeError, ExpertReply, Framed, Message, Tensor, encode, pieces_of
from xpod_runtime import frames, frames_arena
from xpod_runtime.config import ServiceConfig
from xpod_runtime.errors import FrameLost
from xpod_runtime.frames import Frames, NoFrames, frames_of
from xpod_runtime.frames_arena import MIB, Room
from xpod_runtime.frames_directory import TOKEN_FILE, host_token, sweep
from xpod_runtime.frames_ring import LIFETIME, QUARANTINE
from xpod_runtime.frames_segment import ForeignSegment, Segment
from xpod_runtime.testing import LIMIT

ONE = Room(segment=MIB, budget=MIB)


def reply(size: int, fill: int = 7) -> ExpertReply:
    return ExpertReply(Tensor("u8", (size,), bytes([fill]) * size))


def put(sender: Frames, message: Message) -> Framed | None:
    return sender.put("near", pieces_of(message))


def sure(framed: Framed | None) -> Framed:
    assert framed is not None
    return framed


def pair(directory: Path, **options: object) -> tuple[Frames, Frames]:
    sender, reader = Frames(directory, least=1, **options), Frames(directory, least=1)  # type: ignore[arg-type]
    sender.meet("near", reader.token)
    return sender, reader


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != TOKEN_FILE)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 100_000, 3 * MIB])
def test_what_is_put_is_read(frames_directory: Path, size: int) -> None:
    sender, reader = pair(frames_directory)
    for fill in range(5):
        assert reader.decode(encode(sure(put(sender, reply(size, fill))))) == reply(size, fill)
    sender.close()
    reader.close()
    assert files(frames_directory) == []
    assert sender.put(sender.mark, [b"x"]) is None
    assert files(frames_directory) == []


def test_a_frame_is_read_once(frames_directory: Path) -> None:
    sender, reader = pair(frames_directory)
    first = encode(sure(put(sender, reply(10))))
    assert reader.decode(first) == reply(10)
    sender.put("near", pieces_of(reply(10)))
    with pytest.raises(FrameLost):
        reader.decode(first)


def test_only_the_near_and_only_the_large(frames_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    sender, far = Frames(frames_directory, least=1000), Frames(tmp_path / "other")
    assert put(sender, reply(2000)) is None
    sender.meet("near", far.token)
    assert put(sender, reply(2000)) is None
    sender.meet("near", sender.token)
    assert put(sender, reply(2000))
    assert put(sender, reply(500)) is None
    sender.forget("near")
    assert put(sender, reply(2000)) is None
    assert sender.put(f"_INBOX.x.1{sender.mark}", pieces_of(reply(2000)))
    assert sender.put(f"_INBOX.x.1{far.mark}", pieces_of(reply(2000))) is None
    sender.close()
    far.close()


def test_one_who_could_not_read_gets_frames_again_later(
    frames_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, _ = pair(frames_directory)
    assert sender.limit("near") > MIB
    sender.doubt("near")
    assert sender.limit("near") == 0
    assert put(sender, reply(10)) is None
    sender.meet("near", sender.token)  # a hello says nothing new
    assert put(sender, reply(10)) is None
    later = frames.time.monotonic() + frames.DOUBT_SECONDS
    monkeypatch.setattr(frames.time, "monotonic", lambda: later)
    assert put(sender, reply(10))
    sender.forget("near")
    sender.doubt("near")
    assert put(sender, reply(10)) is None
    sender.close()


def test_a_full_arena_takes_nothing_until_it_is_read(frames_directory: Path) -> None:
    sender, reader = pair(frames_directory, room=ONE)
    first, second = put(sender, reply(MIB // 2)), put(sender, reply(MIB // 2))
    assert first is not None
    assert second is None
    assert put(sender, reply(2 * MIB)) is None
    reader.decode(encode(first))
    assert put(sender, reply(MIB // 2))
    sender.close()


def test_it_grows_within_its_budget_and_gives_back(
    frames_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, reader = pair(frames_directory, room=Room(segment=MIB, budget=3 * MIB, idle=10))
    made = [put(sender, reply(MIB - 1000)) for _ in range(4)]
    assert [each is not None for each in made] == [True, True, True, False]
    assert len(files(frames_directory)) == 3
    for framed in made[:3]:
        assert reader.decode(encode(sure(framed))) == reply(MIB - 1000)
    later = frames_arena.time.monotonic() + 60
    monkeypatch.setattr(frames_arena.time, "monotonic", lambda: later)
    for _ in range(3):
        assert reader.decode(encode(sure(put(sender, reply(5))))) == reply(5)
    assert len(files(frames_directory)) == 1
    sender.close()
    reader.close()


def test_it_takes_little_and_doubles_as_it_is_needed(frames_directory: Path) -> None:
    sender, reader = pair(frames_directory)
    for size in (1, 2, 4, 4, 8, 8, 8, 8, 16):
        put(sender, reply(MIB - 4096))
        assert sum(path.stat().st_size for path in frames_directory.glob("*.frames")) == size * MIB
    sender.close()
    reader.close()


def test_a_withdrawn_frame_is_lost(frames_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sender, reader = pair(frames_directory, room=ONE)
    first, start = sure(put(sender, reply(MIB // 2))), frames_arena.time.monotonic()
    monkeypatch.setattr(frames_arena.time, "monotonic", lambda: start + LIFETIME + 0.1)
    assert put(sender, reply(MIB // 2)) is None
    with pytest.raises(FrameLost, match="is gone"):
        reader.decode(encode(first))
    monkeypatch.setattr(frames_arena.time, "monotonic", lambda: start + LIFETIME + QUARANTINE + 0.2)
    second = sure(put(sender, reply(MIB // 2, 8)))
    with pytest.raises(FrameLost):
        reader.decode(encode(first))
    assert reader.decode(encode(second)) == reply(MIB // 2, 8)
    sender.close()


@pytest.mark.parametrize("change", [{"offset": 64}, {"offset": 1}, {"offset": 2**62}, {"size": 2**62}, {"size": 3},
    {"sequence": 0}, {"sequence": 2}, {"segment": 5}])  # fmt: skip
def test_descriptors_that_name_no_frame(frames_directory: Path, change: dict[str, int]) -> None:
    sender, reader = pair(frames_directory)
    framed = sure(put(sender, reply(10)))
    with pytest.raises(FrameLost):
        reader.decode(encode(replace(framed, **change)))
    assert reader.decode(encode(framed)) == reply(10)
    sender.close()
    reader.close()


def test_bytes_that_change_while_they_are_read_are_lost(frames_directory: Path) -> None:
    own = Segment(frames_directory, MIB)
    place = own.ring.take(1000, 1, 0.0)
    assert place is not None
    own.write(place, [b"old"], 3)
    other = ForeignSegment(own.path)

    def overtaken(view: memoryview) -> bytes:
        own.write(replace(place, sequence=2), [b"new"], 3)
        return bytes(view)

    def misread(view: memoryview) -> bytes:
        own.write(replace(place, sequence=3), [b"new"], 3)
        raise DecodeError("half old, half new")

    with pytest.raises(FrameLost):
        other.read(Framed(own.number, place.offset, 3, 1), overtaken)
    with pytest.raises(FrameLost):
        other.read(Framed(own.number, place.offset, 3, 2), misread)
    assert other.read(Framed(own.number, place.offset, 3, 3), bytes) == b"new"
    other.close()
    own.close()


def test_what_is_not_a_message_is_an_error_and_frees_its_place(frames_directory: Path) -> None:
    sender, reader = pair(frames_directory, room=ONE)
    for junk in (b"\xc1" * 900_000, encode(Framed(1, 2, 3, 4))):
        with pytest.raises(DecodeError):
            reader.decode(encode(sure(sender.put("near", [junk]))))
    assert put(sender, reply(900_000))
    sender.close()


def test_without_frames_a_descriptor_is_a_loss() -> None:
    none = NoFrames()
    none.meet("near", "")
    assert none.put("near", [bytes(MIB)]) is None
    assert none.decode(encode(Ack("x"))) == Ack("x")
    with pytest.raises(FrameLost, match="no memory is shared"):
        none.decode(encode(Framed(1, 2, 3, 4)))


# -- memory that is not there -------------------------------------------------------------------------------


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_file_system(frames_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sender, reader = pair(frames_directory, room=Room(segment=MIB, budget=8 * MIB, retry=5))
    assert reader.decode(encode(sure(put(sender, reply(1000)))))
    with monkeypatch.context() as patch, structlog.testing.capture_logs() as logs:
        patch.setattr(os, "posix_fallocate", full)
        assert put(sender, reply(2 * MIB)) is None
        assert put(sender, reply(2 * MIB)) is None
        assert put(sender, reply(1000))
        assert len(files(frames_directory)) == 1
    assert [line["event"] for line in logs] == ["no memory for frames"]  # not tried for each message
    assert put(sender, reply(2 * MIB)) is None
    later = frames_arena.time.monotonic() + 5
    monkeypatch.setattr(frames_arena.time, "monotonic", lambda: later)
    assert put(sender, reply(2 * MIB))
    sender.close()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    assert frames_of(ServiceConfig(id="m")) is None
    with structlog.testing.capture_logs() as logs:
        assert frames_of(ServiceConfig(id="m", frames=str(tmp_path / "none"))) is None
    assert [line["event"] for line in logs] == ["no frames: all goes over the bus"]


def test_a_segment_that_may_not_be_opened_ends_frames_for_answers(
    frames_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, reader = pair(frames_directory)

    def forbidden(path: Path) -> ForeignSegment:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("xpod_runtime.frames.ForeignSegment", forbidden)
    assert reader.mark == f"~{reader.token}"
    with pytest.raises(FrameLost, match="cannot be opened"):
        reader.decode(encode(sure(put(sender, reply(10)))))
    assert reader.mark == ""
    sender.close()


# -- the directory ------------------------------------------------------------------------------------------


def test_everyone_in_a_directory_has_one_token(frames_directory: Path, tmp_path: Path) -> None:
    assert host_token(frames_directory) == host_token(frames_directory)
    assert host_token(tmp_path) != host_token(frames_directory)
    (tmp_path / TOKEN_FILE).write_text("../../etc")
    with pytest.raises(OSError, match="holds no token"):
        host_token(tmp_path)


def test_the_living_are_not_swept(frames_directory: Path) -> None:
    sender, reader = pair(frames_directory)
    assert sweep(frames_directory) == 0
    assert reader.decode(encode(sure(put(sender, reply(5))))) == reply(5)
    sender.close()
    reader.close()


KILLED = """
import sys, time
from pathlib import Path
from xpod_proto import Tensor, ExpertReply, encode, pieces_of
from xpod_runtime.frames import Frames
frames = Frames(Path(sys.argv[1]), least=1)
frames.meet("near", frames.token)
for _ in range(2):
    print(encode(frames.put("near", pieces_of(ExpertReply(Tensor("u8", (5,), bytes(5)))))).hex(), flush=True)
time.sleep(3600)
"""


async def test_what_a_killed_process_leaves_is_swept_and_what_was_open_can_be_read(
    frames_directory: Path,
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(frames_directory), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT):
        first, second = [bytes.fromhex((await process.stdout.readline()).decode()) for _ in range(2)]
    reader = Frames(frames_directory)
    assert len(files(frames_directory)) == 1
    assert reader.decode(first) == reply(5, 0)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    late = Frames(frames_directory)
    assert files(frames_directory) == []
    assert reader.decode(second) == reply(5, 0)
    with pytest.raises(FrameLost, match="is gone"):
        late.decode(second)
    late.meet("near", reader.token)
    late._least = 1
    assert reader.decode(encode(sure(put(late, reply(9))))) == reply(9)
    assert len(reader._theirs) == 1  # the dead one's memory is given back
    late.close()
    reader.close()


def lent_reply(sender: Frames, size: int, fill: int = 7) -> list[memoryview | bytes | bytearray]:
    view = sender.lend("near", size)
    assert view is not None
    view[:] = bytes([fill]) * size
    return list(pieces_of(ExpertReply(Tensor("u8", (size,), view), 1 << 40, fill)))


@pytest.mark.parametrize("size", [1, 63, 64, 100_000, 3 * MIB])
def test_what_was_lent_is_read(frames_directory: Path, size: int) -> None:
    sender, reader = pair(frames_directory)
    for fill in range(5):
        framed = sure(sender.put("near", lent_reply(sender, size, fill)))
        whole = ExpertReply(Tensor("u8", (size,), bytes([fill]) * size), 1 << 40, fill)
        assert framed.skip > 0
        assert reader.decode(encode(framed)) == whole
    sender.close()
    reader.close()


def test_lent_memory_goes_with_the_next_message_or_is_given_back(frames_directory: Path) -> None:
    sender, reader = pair(frames_directory, room=ONE)
    pieces = lent_reply(sender, 10)
    assert reader.decode(encode(sure(put(sender, reply(10, 8))))) == reply(10, 8)  # another message was put
    late = sure(sender.put("near", pieces))
    assert late.skip == 0  # copied like any
    reader.decode(encode(late))
    for _ in range(100):  # more than there is room for
        assert sender.lend("near", MIB // 10) is not None
    long = [b"x" * 65, *lent_reply(sender, 10)]
    assert sure(sender.put("near", long)).skip == 0  # does not fit around it
    sender.close()
    reader.close()


def test_nobody_far_is_lent_anything(frames_directory: Path) -> None:
    sender, reader = pair(frames_directory)
    assert sender.lend("far", 10) is None
    assert Frames(frames_directory, least=100).lend(sender.mark, 99) is None
    sender.lend("near", 10)
    sender.close()
    reader.close()
    assert files(frames_directory) == []
