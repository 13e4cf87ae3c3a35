"""Blocks are where they should be when nodes come, go and come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from mempool.blocks import SIZE, messages, name, names
from mempool.nodes import Pool, pool
from xpod.mempool import replication
from xpod_policy.duties import homes
from xpod_proto import Ack, MatchBlocks, MatchedBlocks, StoreBlocks, subjects
from xpod_runtime.fault_plan import Fault, FaultPlan, Rule

COUNT = 60


async def store(at: Pool, numbers: range, size: int = SIZE) -> None:
    """As a client does: each block at its homes."""
    for member in at.nodes:
        mine = [number for number in numbers if member in homes(name(number), at.nodes)]
        for start in range(0, len(mine), 8):
            await at.ask(member, StoreBlocks(messages(mine[start : start + 8], size)), Ack)


async def whole(at: Pool) -> None:
    """Returns once every block is at its homes and nowhere else, and nobody has anything to do."""
    await at.until(lambda: all(at.at_home(number) for number in range(COUNT)))
    await at.until_whole()
    assert all(at.at_home(number) for number in range(COUNT))
    await at.contents_are_right()


async def test_a_second_node_gets_everything(tmp_path: Path) -> None:
    async with pool(tmp_path, "a") as at:
        await store(at, range(COUNT))
        await at.begin("b")
        await whole(at)
        assert at.nodes["a"].load()["copied"] == COUNT
        assert at.nodes["b"].load()["copied"] == 0


async def test_a_node_that_joins_gets_its_share_only(tmp_path: Path) -> None:
    async with pool(tmp_path, "a", "b") as at:
        await store(at, range(COUNT))
        await at.begin("c")
        await whole(at)
        share = {number for number in range(COUNT) if "c" in homes(name(number), at.nodes)}
        assert at.nodes["c"].tiers.names() == set(names(share))
        assert at.nodes["c"].load()["inserted"] == len(share) < COUNT


async def test_when_a_node_dies_the_others_copy(tmp_path: Path) -> None:
    async with pool(tmp_path, "a", "b", "c") as at:
        await store(at, range(COUNT))
        await at.crash("a")
        await whole(at)


@pytest.mark.parametrize("way", ["crash", "stop", "disk lost"])
async def test_a_node_that_comes_back_is_whole_again(tmp_path: Path, way: str) -> None:
    async with pool(tmp_path, "a", "b") as at:
        await store(at, range(COUNT))
        await at.until_whole()
        await (at.stop("a") if way == "stop" else at.crash("a"))
        await store(at, range(COUNT, COUNT + 5))
        if way == "disk lost":
            (tmp_path / "a").mkdir(exist_ok=True)
            (tmp_path / "a" / "blocks").write_text("in the way")
        await at.begin("a")
        await whole(at)
        assert all(at.at_home(number) for number in range(COUNT + 5))
        assert at.nodes["b"].load()["copied"] == (5 if way == "stop" else COUNT + 5)


async def test_large_blocks_are_copied(tmp_path: Path) -> None:
    async with pool(tmp_path, "a") as at:
        await at.ask("a", StoreBlocks(messages(range(2), 1_500_000)), Ack)
        await at.begin("b")
        await at.until(lambda: len(at.nodes["b"].tiers) == 2)
        await at.until_whole()
        assert at.nodes["a"].load()["sent_bytes"] == 3_000_000


async def test_nobody_raises_when_a_node_dies_in_the_middle(tmp_path: Path) -> None:
    async with pool(tmp_path, "a", mempool_copy_bytes=20 * SIZE) as at:
        await store(at, range(COUNT))
        await at.begin("b")
        await at.until(lambda: len(at.nodes["b"].tiers) > 0 or at.nodes["a"].replication.lag > 0)
        assert at.nodes["a"].load()["lag"] != 0
        await at.crash("b")
        await at.until_whole()
        await at.begin("b", mempool_copy_bytes=1 << 20)
        at.nodes["a"].replication._pace = at.nodes["b"].replication._pace
        await whole(at)
        states = {child.spec.name: child.restarts for child in at.nodes["a"].tree.children}
        assert states["replication"] == 0


async def test_answers_that_do_not_come_are_asked_for_again(tmp_path: Path) -> None:
    async with pool(tmp_path, "a") as at:
        await store(at, range(COUNT))
        rule = Rule(Fault.CORRUPT, subjects.mailbox("test", "mempool", "b"), source="a", limit=3)
        at.fabric.plan = FaultPlan([rule])
        await at.begin("b")
        await whole(at)
        assert rule.hits == 3


async def test_a_stray_that_is_leased_stays_until_then(tmp_path: Path) -> None:
    async with pool(tmp_path, "a", "b") as at:
        await store(at, range(COUNT))
        nodes = ["a", "b", "c"]
        strays = [number for number in range(COUNT) if "a" not in homes(name(number), nodes)]
        await at.ask("a", MatchBlocks(names(strays[:1]), 600.0), MatchedBlocks)
        await at.begin("c")
        await at.until(lambda: all(at.at_home(number) for number in range(COUNT) if number != strays[0]))
        assert at.holders(strays[0]) == {"a", "b", "c"}
        at.nodes["a"].tiers.free(names(strays[:1]))
        await whole(at)


async def test_a_stray_that_its_homes_do_not_take_is_kept(tmp_path: Path) -> None:
    async with pool(tmp_path, "a", "b") as at:
        await store(at, range(COUNT))
        await at.begin("c", mempool_bytes=0, mempool_disk_bytes=0)
        await at.until_whole()
        for number in range(COUNT):
            assert at.holders(number) == {"a", "b"}


async def test_what_is_stored_by_what_the_nodes_were_finds_its_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a client that does not know the newcomer yet, when all else has been copied."""
    monkeypatch.setattr(replication, "SETTLING_SECONDS", 0.5)
    async with pool(tmp_path, "a", "b") as at:
        await at.begin("c")
        await at.until_whole()
        for member in ("a", "b"):
            await at.ask(member, StoreBlocks(messages(range(COUNT))), Ack)
        assert len(at.nodes["c"].tiers) == 0
        await whole(at)
