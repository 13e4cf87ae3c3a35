"""Frames under a bus: what happens when one side cannot read them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from xpod_proto import Ack, ErrorReply, FetchBlocks, Message, pieces_of
from xpod_runtime.errors import FrameLost, RemoteError
from xpod_runtime.frames import Frames
from xpod_runtime.frames_segment import SUFFIX
from xpod_runtime.line import Answer, Incoming
from xpod_runtime.nats_bus import NatsBus
from xpod_runtime.nats_line import NatsLine
from xpod_runtime.testing import LIMIT, Recorder

LARGE = FetchBlocks((bytes(3_000_000),))
SMALL = FetchBlocks((bytes(3_000),))


@pytest_asyncio.fixture
async def asker(nats_url: str, frames_directory: Path) -> AsyncIterator[NatsBus]:
    bus = await NatsBus.connect(nats_url, "asker", wait=LIMIT, frames=Frames(frames_directory, least=1000))
    yield bus
    await bus.close()


async def serve(bus: NatsBus, subject: str, answer: Message | None = None) -> Recorder:
    heard = Recorder(lambda message: answer or message)
    await bus.subscribe(subject, heard)
    await bus.flush()
    return heard


def segments(directory: Path) -> list[Path]:
    return list(directory.glob(f"*{SUFFIX}"))


async def test_a_server_that_shares_no_memory_gets_the_request_again(nats_url: str, asker: NatsBus) -> None:
    server = await NatsBus.connect(nats_url, "server", wait=LIMIT)
    for message in (SMALL, LARGE):
        heard = await serve(server, f"plain.{len(message.names[0])}")
        subject = f"plain.{len(message.names[0])}"
        asker.meet(subject, asker.frames)
        assert await asker.request(subject, message, timeout=LIMIT) == message
        assert await asker.request(subject, message, timeout=LIMIT) == message
        assert heard.messages == [message] * 2
        assert asker._frames.put(subject, pieces_of(message)) is None
    await server.close()


async def test_an_answer_that_is_gone_is_an_error(
    nats_url: str, frames_directory: Path, asker: NatsBus
) -> None:
    server = await NatsBus.connect(
        nats_url, "server", wait=LIMIT, frames=Frames(frames_directory, least=1000)
    )
    await serve(server, "gone", SMALL)
    server._frames.put(asker._frames.mark, pieces_of(SMALL))
    (theirs,) = segments(frames_directory)
    theirs.unlink()
    with pytest.raises(FrameLost, match="is gone"):
        await asker.request("gone", Ack(), timeout=LIMIT)
    await server.close()


async def test_a_loss_further_on_is_not_taken_for_one_s_own(
    nats_url: str, frames_directory: Path, asker: NatsBus
) -> None:
    server = await NatsBus.connect(nats_url, "server", wait=LIMIT, frames=Frames(frames_directory))
    calls = []

    async def lose(message: Message) -> Message:
        calls.append(message)
        raise FrameLost("of another")

    await server.subscribe("further", lose)
    await server.flush()
    asker.meet("further", server.frames)
    with pytest.raises(RemoteError) as caught:
        await asker.request("further", SMALL, timeout=LIMIT)
    assert caught.value.code == "bus"
    assert len(calls) == 1
    await server.close()


async def test_a_closed_bus_leaves_no_file(nats_url: str, frames_directory: Path, asker: NatsBus) -> None:
    server = await NatsBus.connect(nats_url, "server", wait=LIMIT, frames=Frames(frames_directory))
    await serve(server, "large")
    asker.meet("large", server.frames)
    assert await asker.request("large", LARGE, timeout=LIMIT) == LARGE
    await asker.close()
    await server.close()
    assert segments(frames_directory) == []


def test_a_line_and_another(nats_url: str, frames_directory: Path) -> None:
    one = NatsLine([nats_url], "one", frames=Frames(frames_directory, least=1000))
    two = NatsLine([nats_url], "two", frames=Frames(frames_directory, least=1000))
    two.listen("line.two")
    two.tend()  # it connects
    one._frames.meet("line.two", two._frames.token)
    ticket = one.post("line.two", LARGE)
    one.flush()
    call = two.take(LIMIT)
    assert isinstance(call, Incoming)
    assert call.message == LARGE
    two.answer(call, LARGE)
    two.flush()
    assert one.take(LIMIT) == Answer(ticket, LARGE)
    one.close()
    two.close()
    assert segments(frames_directory) == []


def test_a_line_forgets_who_cannot_read_its_frames(nats_url: str, frames_directory: Path) -> None:
    one = NatsLine([nats_url], "one", frames=Frames(frames_directory, least=1000))
    two = NatsLine([nats_url], "two")
    two.listen("line.blind")
    two.tend()  # it connects
    one._frames.meet("line.blind", one._frames.token)
    one.post("line.blind", SMALL)
    one.flush()
    assert two.take(0.2) is None
    answer = one.take(LIMIT)
    assert isinstance(answer, Answer)
    assert isinstance(answer.message, RemoteError)
    assert answer.message.code == FrameLost.code
    ticket = one.post("line.blind", SMALL)
    one.flush()
    call = two.take(LIMIT)
    assert isinstance(call, Incoming)
    two.answer(call, ErrorReply("x", "y"))
    two.flush()
    last = one.take(LIMIT)
    assert isinstance(last, Answer)
    assert last.ticket == ticket
    one.close()
    two.close()
