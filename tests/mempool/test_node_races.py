"""Many clients at once, nodes that die and come back, tiers that are too small: right bytes or none, sound books."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from pathlib import Path

import pytest

from mempool.blocks import SIZE, block, messages, name, names
from mempool.nodes import M, Pool, pool
from xpod_policy.duties import homes
from xpod_proto import (
    Ack,
    AllocBlocks,
    BlockFlags,
    BlockPart,
    DeleteBlocks,
    FetchBlocks,
    FetchedBlocks,
    FillBlocks,
    FreeBlocks,
    InsertBlocks,
    MatchBlocks,
    MatchedBlocks,
    Message,
    NewBlock,
    StoreBlocks,
    SwapIn,
    SwapOut,
    Tensor,
    TransferBlocks,
)
from xpod_runtime.errors import DeadlineExceeded, NoResponders, RemoteError
from xpod_runtime.fault_plan import Fault, FaultPlan, Rule

NODES = ("a", "b", "c")
NUMBERS, MOST_STEPS = 60, 60
PATIENCE = 0.3
TIERS = {"mempool_bytes": 12 * SIZE, "mempool_disk_bytes": 40 * SIZE}


class Client:
    """Asks whatever comes to its mind, and looks at what it gets."""

    def __init__(self, at: Pool, seed: int, steps: asyncio.Semaphore) -> None:
        self.at, self.steps = at, steps
        self.chance = random.Random(seed)
        self.right = {name(number): message for number, message in enumerate(messages(range(NUMBERS)))}
        self.got = 0

    async def run(self, steps: int) -> None:
        for _ in range(steps):
            some = self.chance.sample(range(NUMBERS), self.chance.randrange(1, 7))
            member = self.chance.choice(NODES)
            with suppress(NoResponders, RemoteError, DeadlineExceeded):  # it is gone, or goes
                await self._step(member, some)
            self.steps.release()
            for node in self.at.nodes.values():
                node.check()

    async def _step(self, member: str, some: list[int]) -> None:
        which = names(some)
        lease = self.chance.choice([0.0, 0.0, 0.02])
        choice = self.chance.randrange(12)
        calls: list[tuple[Message, type[Message]]] = [
            (DeleteBlocks(which[:1]), BlockFlags),
            (SwapOut(which), BlockFlags),
            (SwapIn(which), BlockFlags),
            (MatchBlocks(which, lease), MatchedBlocks),
            (FreeBlocks(which), Ack),
            (TransferBlocks(which, self.chance.choice(NODES)), BlockFlags),
        ]
        if choice < len(calls):
            await self._ask(member, *calls[choice])
        elif choice < 9:
            await self._ask(member, StoreBlocks(messages(some)), Ack)
        elif choice < 10:
            await self._fill(member, some[0])
        else:
            found = await self._ask(member, FetchBlocks(which, lease), FetchedBlocks)
            for each in found.blocks:
                assert each == self.right[each.name], "a wrong block"
                self.got += 1

    async def _ask(self, member: str, message: Message, answer: type[M]) -> M:
        return await self.at.ask(member, message, answer, PATIENCE)

    async def _fill(self, member: str, number: int) -> None:
        new = NewBlock(name(number), block(number).tokens, SIZE)
        (due,) = (await self._ask(member, AllocBlocks((new,), 0.05), BlockFlags)).flags
        if due:
            cut = self.chance.randrange(1, SIZE)
            data = bytes(block(number).data)
            for start, piece in ((cut, data[cut:]), (0, data[:cut])):
                part = BlockPart(name(number), start, Tensor("u8", (len(piece),), piece))
                await self._ask(member, FillBlocks((part,)), BlockFlags)
            await self._ask(member, InsertBlocks((name(number),), (block(number).checksum,)), BlockFlags)


async def trouble(at: Pool, seed: int, steps: asyncio.Semaphore, over: asyncio.Event) -> None:
    """Nodes die and come back, in turns, whenever clients have taken some steps."""
    chance = random.Random(seed)
    while True:
        for _ in range(chance.randrange(10, MOST_STEPS)):
            await steps.acquire()
        if over.is_set():
            return
        victim = chance.choice(NODES)
        await (at.crash(victim) if chance.random() < 0.5 else at.stop(victim))
        if chance.random() < 0.3:
            for file in (at.folder / victim / "blocks").glob("*.kv"):
                raw = bytearray(file.read_bytes())
                raw[chance.randrange(len(raw))] ^= 0xFF
                file.write_bytes(raw)
        await at.begin(victim, **TIERS)


@pytest.mark.parametrize("seed", range(4))
async def test_right_bytes_or_none(tmp_path: Path, seed: int) -> None:
    async with pool(tmp_path, *NODES, **TIERS) as at:
        at.fabric.delay = 0.002
        at.fabric.plan = FaultPlan([Rule(Fault.DELAY, "test.v1.mempool.*", probability=0.3)], seed=seed)
        steps = asyncio.Semaphore(0)
        clients = [Client(at, 100 * seed + number, steps) for number in range(4)]
        over = asyncio.Event()
        troubles = asyncio.create_task(trouble(at, seed, steps, over))
        await asyncio.gather(*(client.run(120) for client in clients))
        over.set()
        for _ in range(MOST_STEPS):
            steps.release()
        await troubles
        assert sum(client.got for client in clients) > 50
        await at.until_whole()
        await at.contents_are_right()


@pytest.mark.parametrize("seed", range(3))
async def test_with_room_enough_nothing_is_lost(tmp_path: Path, seed: int) -> None:
    """One node dies at a time, and is whole before the next: every block that both homes took is there at the end."""
    chance = random.Random(seed)
    async with pool(tmp_path, *NODES) as at:
        for turn in range(3):
            for number in range(15 * turn, 15 * (turn + 1)):
                for member in homes(name(number), at.nodes):
                    await at.ask(member, StoreBlocks(messages([number])), Ack)
            victim = chance.choice(NODES)
            await at.crash(victim)
            await at.until_whole()
            await at.begin(victim)
            await at.until(lambda: all(at.at_home(number) for number in range(15 * (turn + 1))))  # noqa: B023
            await at.until_whole()
        await at.contents_are_right()
