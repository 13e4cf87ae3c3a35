"""Both tiers, leases and restarts against a model that knows only what a block must contain and what must be here.

Whatever happens to the files between two lives of a node, it gives out right blocks or none.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mempool.blocks import block, name
from xpod.mempool.allocation import Allocation
from xpod.mempool.checks import check
from xpod.mempool.tiers import Tiers
from xpod_proto import BlockPart, NewBlock, Tensor

T = TypeVar("T")
NUMBERS = st.lists(st.integers(0, 14), min_size=1, max_size=5, unique=True)
SIZES = {number: 20 + 17 * (number % 5) for number in range(15)}


class AgainstAModel(RuleBasedStateMachine):
    """`self.told` is what the node's news say that it has; `self.leased` until when a block has to stay."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.now = 0.0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize(memory=st.integers(0, 400), disk=st.sampled_from([0, 300, 1500, 4000]))
    def start(self, memory: int, disk: int) -> None:
        self.budgets = memory, disk
        self.run(self.open())

    async def open(self) -> None:
        self.tiers = Tiers(*self.budgets, Path(self.folder.name) / "blocks", lambda: self.now)
        self.allocation = Allocation(self.tiers)
        self.tiers.observer = self
        self.told: set[bytes] = set()
        self.leased: dict[int, float] = {}
        self.reserved: set[int] = set()
        await self.tiers.open()

    def added(self, one: bytes) -> None:
        assert one not in self.told
        self.told.add(one)

    def removed(self, one: bytes) -> None:
        self.told.remove(one)

    def right(self, found: dict[bytes, Any]) -> None:
        known = {name(number): block(number, size) for number, size in SIZES.items()}
        assert all(each == known[one] for one, each in found.items()), "never a wrong block"

    @rule(numbers=NUMBERS)
    def put(self, numbers: list[int]) -> None:
        self.run(self.tiers.put({name(number): block(number, SIZES[number]) for number in numbers}))

    @rule(numbers=NUMBERS, lease=st.sampled_from([0.0, 0.0, 3.0]))
    def get(self, numbers: list[int], lease: float) -> None:
        here = {name(number) for number in numbers if name(number) in self.told}
        found = self.run(self.tiers.get([name(number) for number in numbers], lease))
        self.right(found)
        assert set(found) == here, "what is said to be here is given out"
        self.hold(numbers, lease)

    @rule(numbers=NUMBERS, lease=st.sampled_from([0.0, 3.0]))
    def match(self, numbers: list[int], lease: float) -> None:
        flags = self.tiers.match([name(number) for number in numbers], lease)
        assert flags == [name(number) in self.told for number in numbers]
        self.hold(numbers, lease)

    def hold(self, numbers: list[int], lease: float) -> None:
        for number in numbers:
            if lease and name(number) in self.told:
                self.leased[number] = self.now + lease

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.tiers.expire()
        self.allocation.expire()
        self.leased = {number: until for number, until in self.leased.items() if until > self.now}

    @rule(numbers=NUMBERS)
    def free(self, numbers: list[int]) -> None:
        self.tiers.free([name(number) for number in numbers])
        for number in numbers:
            self.leased.pop(number, None)

    @rule(numbers=NUMBERS)
    def delete(self, numbers: list[int]) -> None:
        here = [name(number) in self.told for number in numbers]
        assert self.tiers.delete([name(number) for number in numbers]) == here
        for number in numbers:
            assert name(number) not in self.told
            self.leased.pop(number, None)

    @rule(numbers=NUMBERS, way=st.sampled_from(["swap_out", "swap_in"]))
    def swap(self, numbers: list[int], way: str) -> None:
        flags = self.run(getattr(self.tiers, way)([name(number) for number in numbers]))
        tier = self.tiers.disk if way == "swap_out" else self.tiers.memory
        assert flags == [name(number) in tier for number in numbers]

    @rule(numbers=NUMBERS)
    def alloc(self, numbers: list[int]) -> None:
        news = [NewBlock(name(n), block(n).tokens, SIZES[n]) for n in numbers]
        flags = self.run(self.allocation.alloc(news, 2.0))
        assert not any(name(n) in self.told for n, flag in zip(numbers, flags, strict=True) if flag)

    @rule(number=st.integers(0, 14), start=st.integers(0, 90), size=st.integers(0, 90))
    def fill(self, number: int, start: int, size: int) -> None:
        data = bytes(block(number, SIZES[number]).data)[start : start + size]
        (flag,) = self.allocation.fill(
            [BlockPart(name(number), start if data else 0, Tensor("u8", (len(data),), data))]
        )
        assert flag == (name(number) in self.allocation.rooms or name(number) in self.told)

    @rule(numbers=NUMBERS)
    def insert(self, numbers: list[int]) -> None:
        sums = [block(number, SIZES[number]).checksum for number in numbers]
        flags = self.allocation.insert([name(number) for number in numbers], sums)
        assert flags == [name(number) in self.told for number in numbers]

    @rule()
    def orderly_restart(self) -> None:
        self.run(self.tiers.keep())
        kept = set(self.tiers.disk)
        self.run(self.restart())
        assert self.told == kept

    @rule()
    def crash(self) -> None:
        kept = set(self.tiers.disk)
        self.run(self.restart())
        assert self.told == kept

    @rule(which=st.integers(0, 3), share=st.floats(0, 1), flip=st.booleans())
    def crash_that_hurts_a_file(self, which: int, share: float, flip: bool) -> None:
        self.tiers.close()
        files = sorted(Path(self.folder.name).glob("blocks/*.kv"))
        if files:
            file = files[which % len(files)]
            raw = bytearray(file.read_bytes())
            at = int(share * (len(raw) - 1))
            if flip:
                raw[at] ^= 0xFF
            else:
                del raw[at:]
            file.write_bytes(raw)
        before = set(self.tiers.disk)
        self.run(self.restart())
        assert self.told <= before, "nothing comes back that was deleted"
        found = self.run(self.tiers.read(list(self.told)))
        self.right(found)
        assert set(found) == self.told, "what was read in vain is not here"

    async def restart(self) -> None:
        self.tiers.close()
        await self.open()

    @invariant()
    def all_is_well(self) -> None:
        if not hasattr(self, "tiers"):
            return
        check(self.tiers, self.allocation)
        assert self.told == self.tiers.names()
        assert all(name(number) in self.told for number in self.leased), "a leased block stays"
        assert self.tiers.counts()["bytes"] <= self.budgets[0]
        files = Path(self.folder.name).glob("blocks/*.kv")
        assert sum(file.stat().st_size for file in files) <= self.budgets[1]

    def teardown(self) -> None:
        if hasattr(self, "tiers"):
            self.right(self.run(self.tiers.read([name(number) for number in SIZES])))
            self.tiers.close()
        self.runner.close()
        self.folder.cleanup()


AgainstAModel.TestCase.settings = settings(
    deadline=None, derandomize=True, max_examples=120, stateful_step_count=40
)
TestAgainstAModel = AgainstAModel.TestCase
