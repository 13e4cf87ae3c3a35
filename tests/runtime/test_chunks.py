"""Cutting and assembling as pure functions, and transfers that go wrong on a faulty bus."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpod_proto import Ack, FetchBlocks
from xpod_runtime.chunks import Assembly, Cut
from xpod_runtime.errors import MessageTooLarge, RemoteError, TransferFailed
from xpod_runtime.fault_plan import Fault, FaultPlan, Rule
from xpod_runtime.local_bus import LocalBus, LocalFabric
from xpod_runtime.receiving import Limits
from xpod_runtime.testing import LIMIT, Recorder

MIB = 1024 * 1024


def assemble(cut: Cut, order: list[int]) -> bytes:
    assembly = Assembly(cut.opening(), max_bytes=MIB)
    for index in order:
        assembly.add(cut.chunk(index))
    return bytes(assembly.payload())


@given(st.binary(min_size=1, max_size=2000), st.integers(1, 500), st.randoms(use_true_random=False))
def test_chunks_in_any_order_even_twice_give_the_payload(
    payload: bytes, size: int, shuffler: random.Random
) -> None:
    cut = Cut("t", payload, size)
    order = list(range(1, cut.count)) * 2
    shuffler.shuffle(order)
    assert assemble(cut, order) == payload


def test_a_missing_chunk_is_not_a_payload() -> None:
    cut = Cut("t", bytes(100), 10)
    with pytest.raises(TransferFailed):
        assemble(cut, [1, 2, 3])


def test_a_corrupt_chunk_is_refused() -> None:
    cut = Cut("t", bytes(100), 10)
    assembly = Assembly(cut.opening(), max_bytes=MIB)
    with pytest.raises(TransferFailed, match="corrupt"):
        assembly.add(dataclasses.replace(cut.chunk(3), data=b"\x01" + bytes(9)))


def test_a_corrupt_opening_shows_at_the_end() -> None:
    cut = Cut("t", bytes(20), 10)
    assembly = Assembly(dataclasses.replace(cut.opening(), data=b"\x01" + bytes(9)), max_bytes=MIB)
    assembly.add(cut.chunk(1))
    with pytest.raises(TransferFailed, match="corrupt"):
        assembly.payload()


@pytest.mark.parametrize(
    "change",
    [
        {"transfer": "other"},
        {"index": 0},
        {"index": 10},
        {"index": -1},
        {"data": bytes(9)},
        {"data": bytes(11)},
    ],
)
def test_a_chunk_that_does_not_belong_is_refused(change: dict[str, Any]) -> None:
    cut = Cut("t", bytes(100), 10)
    assembly = Assembly(cut.opening(), max_bytes=MIB)
    with pytest.raises(TransferFailed):
        assembly.add(dataclasses.replace(cut.chunk(3), **change))


@pytest.mark.parametrize(
    "change", [{"count": 0}, {"count": 9}, {"count": 10**9}, {"data": b""}, {"total": 0}, {"total": -5}]
)
def test_an_impossible_opening_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TransferFailed):
        Assembly(dataclasses.replace(Cut("t", bytes(100), 10).opening(), **change), max_bytes=MIB)


def test_an_opening_beyond_the_limit_is_refused() -> None:
    with pytest.raises(MessageTooLarge):
        Assembly(Cut("t", bytes(100), 10).opening(), max_bytes=99)


MESSAGE = FetchBlocks((bytes(range(256)) * 40,))
QUICK = Limits(patience=0.5)


def buses(plan: FaultPlan, limits: Limits = QUICK) -> tuple[LocalFabric, LocalBus, LocalBus]:
    fabric = LocalFabric(plan)
    return (
        fabric,
        LocalBus(fabric, "asker", payload_limit=1000, limits=limits),
        LocalBus(fabric, "server", payload_limit=1000, limits=limits),
    )


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.CORRUPT])
@pytest.mark.parametrize("skip", [0, 1, 4, 8, 9])
async def test_a_bad_piece_fails_the_transfer_and_never_gives_a_wrong_message(
    fault: Fault, skip: int
) -> None:
    rule = Rule(fault, source="asker", target="server", skip=skip, limit=1, min_size=600)
    _, asker, server = buses(FaultPlan([rule]))
    heard = Recorder()
    await server.subscribe("box", heard)
    with pytest.raises(TransferFailed):
        await asker.publish("box", MESSAGE)
    assert rule.hits == 1
    await asker.publish("box", MESSAGE)
    assert await heard.wait() == [MESSAGE]
    assert len(server._inbox) == 0
    assert len(server._receiving) == 0
    assert len(asker._inbox) == 0


async def test_a_request_whose_large_answer_is_corrupted_fails() -> None:
    rule = Rule(Fault.CORRUPT, source="server", target="asker", skip=3, limit=1, min_size=600)
    _, asker, server = buses(FaultPlan([rule]))
    await server.subscribe("box", Recorder(lambda _: MESSAGE))
    with pytest.raises(TransferFailed):
        await asker.request("box", Ack(), timeout=LIMIT)
    assert await asker.request("box", Ack(), timeout=LIMIT) == MESSAGE


@pytest.mark.parametrize("fault", [Fault.DUPLICATE, Fault.REORDER])
async def test_repeated_and_overtaken_chunks_do_no_harm(fault: Fault) -> None:
    rule = Rule(fault, target="server", skip=1, probability=0.5, limit=4, min_size=600)
    _, asker, server = buses(FaultPlan([rule], seed=1), Limits(patience=LIMIT))
    heard = Recorder()
    await server.subscribe("box", heard)
    await asker.publish("box", MESSAGE)
    assert await heard.wait() == [MESSAGE]
    assert rule.hits == 4


async def test_a_sender_stays_within_its_credit() -> None:
    plan = FaultPlan([Rule(Fault.HOLD, source="asker", target="server", min_size=200)])
    fabric, asker, server = buses(plan, Limits(window=3, patience=LIMIT))
    heard = Recorder()
    await server.subscribe("box", heard)
    sending = asyncio.create_task(asker.publish("box", MESSAGE))
    async with asyncio.timeout(LIMIT):
        for burst in (1, 3, 3, 3, 1):  # the opening, then as many as the window lets out
            await fabric.holding(burst)
            await asyncio.sleep(0)
            assert fabric.release() == burst
        await sending
    assert await heard.wait() == [MESSAGE]


async def test_a_receiver_bounds_how_many_transfers_it_takes() -> None:
    plan = FaultPlan([Rule(Fault.HOLD, source="asker", target="server", skip=1, limit=1, min_size=600)])
    fabric, asker, server = buses(plan, Limits(transfers=1, patience=LIMIT))
    heard = Recorder()
    await server.subscribe("box", heard)
    first = asyncio.create_task(asker.publish("box", MESSAGE))
    await asyncio.wait_for(fabric.holding(), LIMIT)
    with pytest.raises(RemoteError, match="1 transfers are under way"):
        await asker.publish("box", MESSAGE)
    fabric.release()
    await first
    assert await heard.wait() == [MESSAGE]


async def test_a_broadcast_over_the_limit_is_an_error() -> None:
    _, asker, server = buses(FaultPlan(), Limits(patience=0.2))
    await server.subscribe("box", Recorder())
    await asker.subscribe("box", Recorder())
    with pytest.raises(TransferFailed, match="several receivers"):
        await asker.publish("box", MESSAGE)


async def test_a_silent_receiver_is_given_up() -> None:
    _, asker, server = buses(FaultPlan([Rule(Fault.DROP, source="server", target="asker")]))
    await server.subscribe("box", Recorder())
    with pytest.raises(TransferFailed, match="silent"):
        await asker.publish("box", MESSAGE)
