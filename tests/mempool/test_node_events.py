"""Who listens to a node's events knows what it has; who missed one notices, and asks for the list."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from mempool.blocks import SIZE, messages, name, names
from mempool.nodes import Pool, names_in, pool
from xpod.common import block_news
from xpod_proto import Ack, BlockFlags, DeleteBlocks, FetchBlocks, FetchedBlocks, StoreBlocks, SwapOut
from xpod_runtime.fault_plan import Fault, FaultPlan, Rule
from xpod_runtime.local_bus import LocalBus


class Listener:
    """Applies events in order to what a node listed."""

    def __init__(self, told: set[bytes], sequence: int) -> None:
        self.names, self.sequence = set(told), sequence

    def hear(self, pool: Pool) -> None:
        for event in pool.heard:
            if event.sequence > self.sequence:
                assert event.sequence == self.sequence + 1
                self.sequence = event.sequence
                self.names |= names_in(event.added)
                self.names -= names_in(event.removed)


async def test_a_store_of_many_blocks_is_one_event(tmp_path: Path) -> None:
    async with pool(tmp_path, "a") as one:
        await one.listen()
        await one.ask("a", StoreBlocks(messages(range(64))), Ack)
        await one.until_heard(lambda: bool(one.heard))
        (event,) = one.heard
        node = one.nodes["a"]
        assert (event.member, event.incarnation, event.sequence) == ("a", node.incarnation, 1)
        assert event.added == b"".join(names(range(64)))
        assert event.removed == b""
        assert node.load()["kv_sequence"] == 1
        await one.ask("a", DeleteBlocks(names(range(10, 12))), BlockFlags)
        await one.ask("a", SwapOut(names(range(5))), BlockFlags)
        await one.ask("a", StoreBlocks(messages([1, 2, 64])), Ack)
        await one.until_heard(lambda: len(one.heard) == 2)
        event = one.heard[1]
        assert (event.sequence, event.added, event.removed) == (2, name(64), name(10) + name(11))


async def test_many_names_are_several_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_news, "MOST_NAMES", 10)
    async with pool(tmp_path, "a") as one:
        await one.listen()
        await one.ask("a", StoreBlocks(messages(range(25))), Ack)
        await one.until_heard(lambda: len(one.heard) == 3)
        assert [len(event.added) // 16 for event in one.heard] == [10, 10, 5]
        assert b"".join(event.added for event in one.heard) == b"".join(names(range(25)))


@pytest.mark.parametrize("seed", range(3))
async def test_events_and_lists_agree_with_what_is_there(tmp_path: Path, seed: int) -> None:
    """Small tiers, so that blocks leave by themselves; listeners that begin at any moment."""
    chance = random.Random(seed)
    async with pool(tmp_path, "a", mempool_bytes=10 * SIZE, mempool_disk_bytes=20 * SIZE) as one:
        await one.listen()
        node = one.nodes["a"]
        listeners = [Listener(set(), 0)]
        for _ in range(60):
            some = [chance.randrange(60) for _ in range(chance.randrange(1, 6))]
            match chance.randrange(4):
                case 0:
                    await one.ask("a", DeleteBlocks(names(some)), BlockFlags)
                case 1:
                    await one.ask("a", FetchBlocks(names(some)), FetchedBlocks)
                case _:
                    await one.ask("a", StoreBlocks(messages(some)), Ack)
            if chance.random() < 0.1:
                listing = node.news.listing()
                assert listing.incarnation == node.incarnation
                listeners.append(Listener(names_in(listing.names), listing.sequence))
            if chance.random() < 0.2:
                await node.news.tell()
        await node.news.tell()
        await one.until_heard(lambda: bool(one.heard) and one.heard[-1].sequence == node.news.sequence)
        assert all(second.sequence == first.sequence + 1 for first, second in pairwise(one.heard))
        for listener in listeners:
            listener.hear(one)
            assert listener.names == node.tiers.names()
        assert await one.listing("a") == node.tiers.names()
        assert len(listeners) > 2


async def test_who_missed_an_event_notices_after_a_reconnect(tmp_path: Path) -> None:
    async with pool(tmp_path, "a") as one:
        await one.listen()
        one.fabric.plan = FaultPlan([Rule(Fault.DROP, "test.v1.kv")])
        await one.ask("a", StoreBlocks(messages([1])), Ack)
        node = one.nodes["a"]
        await node.news.tell()
        assert (node.news.sequence, one.heard) == (1, [])
        one.fabric.plan = FaultPlan()
        control = node.control
        assert isinstance(control, LocalBus)
        control.disconnect()
        control.reconnect()
        await one.until_heard(lambda: bool(one.heard))
        assert (one.heard[0].sequence, one.heard[0].added, one.heard[0].removed) == (2, b"", b"")
        assert await one.listing("a") == {name(1)}


async def test_a_node_that_comes_back_tells_what_it_found(tmp_path: Path) -> None:
    async with pool(tmp_path, "a") as one:
        await one.ask("a", StoreBlocks(messages(range(5))), Ack)
        before = one.nodes["a"].incarnation
        await one.stop("a")
        await one.listen()
        await one.begin("a")
        await one.until_heard(lambda: bool(one.heard))
        event = one.heard[0]
        assert (event.incarnation == before, event.sequence) == (False, 1)
        assert names_in(event.added) == set(names(range(5)))


async def test_an_event_that_cannot_be_sent_leaves_a_gap(tmp_path: Path) -> None:
    async with pool(tmp_path, "a") as one:
        await one.listen()
        control = one.nodes["a"].control
        assert isinstance(control, LocalBus)
        news = block_news.BlockNews(LocalBus(one.fabric, "x"), "test", member="x", incarnation="1", names=set)
        await news._bus.close()
        news.added(name(1))
        await news.tell()
        assert (news.sequence, one.heard) == (1, [])
