"""Lines of both kinds: calls, answers, errors, interrupts; and for NATS what a dying or silent server does."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio

from runtime.secure import SecureBroker
from xpod_proto import Ack, ErrorReply, ExpertReply, Message, Tensor
from xpod_runtime.errors import Disconnected, MessageTooLarge, NoResponders, RemoteError
from xpod_runtime.line import Answer, BusLine, Incoming, Line
from xpod_runtime.local_bus import LocalBus, LocalFabric
from xpod_runtime.nats_bus import NatsBus
from xpod_runtime.nats_line import NatsLine
from xpod_runtime.testing import LIMIT, hang, running_broker
from xpod_runtime.trace_context import TraceContext

T = TypeVar("T")
MakeLine = Callable[[str], Line]


async def on_thread(work: Callable[[], T]) -> T:
    async with asyncio.timeout(2 * LIMIT):
        return await asyncio.to_thread(work)


def taken(line: Line) -> Answer | Incoming:
    """The next arrival; interrupts are passed over."""
    while (arrival := line.take(LIMIT)) is None:
        pass
    return arrival


def asked(line: Line, subject: str, message: Message) -> object:
    """The answer to one call."""
    ticket = line.post(subject, message)
    arrival = taken(line)
    assert isinstance(arrival, Answer)
    assert arrival.ticket == ticket
    return arrival.message


@contextmanager
def serving(line: Line, subject: str, answer: Callable[[Message], Message]) -> Iterator[None]:
    """A thread that answers calls until the end."""
    ready, stop = threading.Event(), threading.Event()

    def serve() -> None:
        line.listen(subject)
        ready.set()
        while not stop.is_set():
            call = line.take(None)
            if isinstance(call, Incoming):
                line.answer(call, answer(call.message))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(LIMIT)
    try:
        yield
    finally:
        stop.set()
        line.interrupt()
        thread.join(LIMIT)
        assert not thread.is_alive()


def echo(message: Message) -> Message:
    return message


@pytest_asyncio.fixture(params=["bus", "nats", "secure"])
async def make_line(
    request: pytest.FixtureRequest, nats_url: str, secure_broker: SecureBroker
) -> AsyncIterator[MakeLine]:
    """Lines that hear one another."""
    fabric, made = LocalFabric(), list[Line]()

    def make(name: str) -> Line:
        line: Line
        if request.param == "nats":
            line = NatsLine([nats_url], name)
        elif request.param == "secure":
            line = NatsLine([secure_broker.url], name, credentials=secure_broker.credentials)
        else:
            line = BusLine(LocalBus(fabric, name))
        made.append(line)
        return line

    yield make
    for line in made:
        line.close()


async def with_server(make_line: MakeLine, subject: str, work: Callable[[Line], T]) -> T:
    """What `work` returns, with somebody who echoes calls to `subject`."""
    server, client = make_line("server"), make_line("client")

    def run() -> T:
        with serving(server, subject, echo):
            return work(client)

    return await on_thread(run)


async def test_answers_come_back_with_their_tickets(make_line: MakeLine) -> None:
    def work(client: Line) -> None:
        tickets = {client.post("echo.a", Ack(str(number))): str(number) for number in range(50)}
        for _ in range(50):
            arrival = taken(client)
            assert isinstance(arrival, Answer)
            assert arrival.message == Ack(tickets.pop(arrival.ticket))
        assert not tickets

    await with_server(make_line, "echo.a", work)


@pytest.mark.parametrize("size", [0, 1, 70_000, 900_000])
async def test_tensors_of_any_size(make_line: MakeLine, size: int) -> None:
    reply = ExpertReply(Tensor("u8", (size,), os.urandom(size)))
    assert await with_server(make_line, "echo.b", lambda client: asked(client, "echo.b", reply)) == reply


async def test_nobody_listens(make_line: MakeLine) -> None:
    client = make_line("client")
    assert isinstance(await on_thread(lambda: asked(client, "nobody.here", Ack())), NoResponders)


async def test_an_error_reply_is_an_error(make_line: MakeLine) -> None:
    server, client = make_line("server"), make_line("client")

    def work() -> object:
        with serving(server, "refuse", lambda message: ErrorReply("busy", "not now")):
            return asked(client, "refuse", Ack())

    error = await on_thread(work)
    assert isinstance(error, RemoteError)
    assert (error.code, error.message) == ("busy", "not now")


async def test_take_ends_at_its_time_and_at_an_interrupt(make_line: MakeLine) -> None:
    client = make_line("client")
    assert await on_thread(lambda: client.take(0)) is None
    assert await on_thread(lambda: client.take(0.01)) is None
    waiting = asyncio.create_task(on_thread(lambda: client.take(None)))
    client.interrupt()
    assert await waiting is None


async def test_what_was_forgotten_is_not_delivered(make_line: MakeLine) -> None:
    def work(client: Line) -> None:
        client.forget(client.post("echo.c", Ack("forgotten")))
        ticket = client.post("echo.c", Ack("wanted"))
        while (arrival := taken(client)) != Answer(ticket, Ack("wanted")):
            assert isinstance(arrival, Answer)
            assert isinstance(client, BusLine), "a bus's line may deliver it"

    await with_server(make_line, "echo.c", work)


async def test_a_call_that_is_too_large_fails_at_once(nats_url: str) -> None:
    line = NatsLine([nats_url], "client")
    huge = ExpertReply(Tensor("u8", (2_000_000,), bytes(2_000_000)))
    assert isinstance(await on_thread(lambda: asked(line, "any", huge)), MessageTooLarge)
    line.close()


async def test_a_killed_server_fails_calls_and_the_line_lives_again(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        bus = await NatsBus.connect(broker.url, "silent", wait=LIMIT)
        client, server = NatsLine([broker.url], "client"), NatsLine([broker.url], "server")
        heard = asyncio.Event()

        async def never(message: Message) -> Message | None:
            heard.set()
            await asyncio.Event().wait()
            return None

        await bus.subscribe("silent", never)
        await bus.flush()
        waiting = asyncio.create_task(on_thread(lambda: asked(client, "silent", Ack())))
        await heard.wait()
        broker.kill()
        assert isinstance(await waiting, Disconnected)
        assert isinstance(await on_thread(lambda: asked(client, "silent", Ack())), Disconnected), "at once"

        def until_served() -> object:
            with serving(server, "echo", echo):
                while isinstance(answer := asked(client, "echo", Ack("back")), Disconnected | NoResponders):
                    client.take(0.01)
                return answer

        broker.start()
        await broker.wait_ready()
        assert await on_thread(until_served) == Ack("back")
        for line in (client, server):
            line.close()
        await bus.close()


async def test_a_server_that_hangs_is_left(tmp_path: Path) -> None:
    async with (
        running_broker(tmp_path / "a", name="a") as hangs,
        running_broker(tmp_path / "b", name="b") as next,
    ):
        client = NatsLine([hangs.url, next.url], "client", ping_seconds=0.5)
        try:
            assert isinstance(await on_thread(lambda: asked(client, "nobody", Ack())), NoResponders)
            hang(hangs.pid)
            assert isinstance(await on_thread(lambda: asked(client, "nobody", Ack())), Disconnected)
            assert isinstance(await on_thread(lambda: asked(client, "nobody", Ack())), NoResponders), (
                "the next"
            )
        finally:
            os.kill(hangs.pid, signal.SIGCONT)
            client.close()


async def test_a_server_that_others_have_left_is_left_at_once(tmp_path: Path) -> None:
    async with (
        running_broker(tmp_path / "a", name="a") as hangs,
        running_broker(tmp_path / "b", name="b") as next,
    ):
        client = NatsLine([hangs.url, next.url], "client", ping_seconds=LIMIT)
        try:
            assert isinstance(await on_thread(lambda: asked(client, "nobody", Ack())), NoResponders)
            client.leave(next.url)  # that is another one
            assert isinstance(await on_thread(lambda: asked(client, "nobody", Ack())), NoResponders)
            hang(hangs.pid)
            ticket = client.post("nobody", Ack())
            client.leave(hangs.url)
            lost = await on_thread(lambda: taken(client))
            assert isinstance(lost, Answer)
            assert (lost.ticket, type(lost.message)) == (ticket, Disconnected)
            assert isinstance(await on_thread(lambda: asked(client, "nobody", Ack())), NoResponders)
        finally:
            os.kill(hangs.pid, signal.SIGCONT)
            client.close()


async def test_who_asks_nothing_leaves_a_server_that_hangs_too(tmp_path: Path) -> None:
    async with (
        running_broker(tmp_path / "a", name="a") as hangs,
        running_broker(tmp_path / "b", name="b") as next,
    ):
        client = NatsLine([hangs.url, next.url], "client", ping_seconds=0.1)

        def tended_until_elsewhere() -> None:
            client.tend()
            first = client._socket
            hang(hangs.pid)
            end = time.monotonic() + LIMIT
            while client._socket in (first, None) and time.monotonic() < end:
                client.take(0.05)
                client.tend()

        try:
            await on_thread(tended_until_elsewhere)
            assert isinstance(await on_thread(lambda: asked(client, "nobody", Ack())), NoResponders)
        finally:
            os.kill(hangs.pid, signal.SIGCONT)
            client.close()


async def test_who_only_listens_leaves_a_server_that_hangs_too(tmp_path: Path) -> None:
    async with (
        running_broker(tmp_path / "a", name="a") as hangs,
        running_broker(tmp_path / "b", name="b") as next,
    ):
        server = NatsLine([hangs.url, next.url], "server", ping_seconds=0.1)
        client = NatsLine([next.url], "client")

        def until_served() -> object:
            with serving(server, "echo", echo):
                while isinstance(answer := asked(client, "echo", Ack("there")), NoResponders):
                    client.take(0.01)
                return answer

        try:
            with serving(server, "echo", echo):  # with the first
                hang(hangs.pid)
            assert await on_thread(until_served) == Ack("there")
        finally:
            os.kill(hangs.pid, signal.SIGCONT)
            for line in (server, client):
                line.close()


async def test_a_call_says_what_it_is_for(make_line: MakeLine) -> None:
    server, client = make_line("server"), make_line("client")
    context = TraceContext("1" * 32, "2" * 16, sampled=True)

    def work() -> list[str]:
        server.listen("traced.calls")
        for trace in (context.header, ""):
            client.post("traced.calls", Ack(), trace)
        client.flush()
        found = []
        while len(found) < 2:
            call = taken(server)
            assert isinstance(call, Incoming)
            server.answer(call, call.message)
            server.flush()
            found.append(call.trace)
        assert {type(taken(client)) for _ in range(2)} == {Answer}
        return found

    assert await on_thread(work) == [context.header, ""]
