"""A placement of a supervisor that was out of touch: it leaves no expert without a holder, and does not last."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pod.harness import LIMIT, Pod, Shape, running_pod
from xpod.expert.shard import Expert
from xpod_model.experts import ExpertSet
from xpod_policy.holdings import RoutingTable, to_bitmap
from xpod_policy.planner import Planner
from xpod_proto import Placement, subjects
from xpod_runtime.local_bus import LocalBus, LocalFabric

STALE_EPOCH = 50


def shards(pod: Pod) -> list[Expert]:
    return [member for member in pod.of("expert") if isinstance(member, Expert)]


async def until_followed(pod: Pod, epoch: int) -> None:
    """Returns once every shard follows a placement later than `epoch`, and holds what it says."""
    async with asyncio.timeout(LIMIT):
        while True:
            wishes = [shard._wish for shard in shards(pod)]
            if all(wish is not None and wish.epoch > epoch for wish in wishes):
                return
            await pod.router.view.changed(0.05)


async def announcements(pod: Pod, shard: Expert, count: int) -> None:
    """Returns once the shard has said so often what it holds."""
    said = shard._version
    while shard._version < said + count:
        await pod.router.view.changed(0.05)


@pytest.mark.parametrize("named", [(), ("expert-0",)])
async def test_a_stray_placement_takes_no_expert_away(
    oracle_dirs: dict[str, Path], named: tuple[str, ...]
) -> None:
    """Whom it does not name keeps what nobody named holds yet; the leader places anew."""
    fabric = LocalFabric()
    async with running_pod(fabric, oracle_dirs["plain"], Shape(expert=3), publish=0.3, announce=0.3) as pod:
        routing = pod.router.engine._directory.routing
        missed: list[object] = []
        pod.router.engine._directory.listen(lambda: missed.extend(routing.missing()))
        everything = {
            layer: to_bitmap(range(routing.experts), routing.experts) for layer in routing.moe_layers
        }
        stray = Placement(STALE_EPOCH, "supervisor-9", dict.fromkeys(named, everything))
        bus = LocalBus(fabric, "supervisor-9")
        await bus.publish(subjects.placement("test"), stray)
        await until_followed(pod, STALE_EPOCH)
        async with asyncio.timeout(LIMIT):
            while any(len(routing.holders(layer, 0)) < 2 for layer in routing.moe_layers):
                await pod.router.view.changed(0.05)
        assert missed == []
        assert all(shard._experts.held for shard in shards(pod)), "the work is shared again"
        await bus.close()


async def test_two_shards_that_follow_two_placements_do_not_rely_on_one_another(
    oracle_dirs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is slow to drop what the first should keep, and meanwhile the first should leave it to the second."""
    dropping, go_on, forget = threading.Event(), threading.Event(), Expert._forget

    def slowly(self: Expert, *pairs: Any) -> None:
        if self.member == "expert-1":
            dropping.set()
            assert go_on.wait(LIMIT)
        forget(self, *pairs)

    monkeypatch.setattr(Expert, "_forget", slowly)
    async with running_pod(LocalFabric(), oracle_dirs["plain"], announce=0.05, publish=3600.0) as pod:
        await pod.crash("supervisor-0")  # it would place anew
        first, second = shards(pod)
        routing = pod.router.engine._directory.routing
        bitmap = to_bitmap(range(routing.experts), routing.experts)
        keeps = dict.fromkeys(routing.moe_layers, bitmap)
        missed: list[object] = []
        pod.router.engine._directory.listen(lambda: missed.extend(routing.missing()))
        async with asyncio.timeout(LIMIT):
            for shard in (second, first):
                await shard.on_placement(Placement(STALE_EPOCH, "test", {"expert-0": keeps}))
            while not dropping.is_set():
                await pod.router.view.changed(0.05)
            await first.on_placement(Placement(STALE_EPOCH + 1, "test", {"expert-1": keeps}))
            await announcements(pod, first, 4)
            go_on.set()
            await second.on_placement(Placement(STALE_EPOCH + 1, "test", {"expert-1": keeps}))
            while first._experts.held:
                await pod.router.view.changed(0.05)
            await announcements(pod, second, 4)
        assert missed == []


async def test_nobody_drops_an_expert_before_all_hold_it_who_should(
    oracle_dirs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two shards hold everything; the first is to leave it to the second and the third, which is slow to load."""
    loading, go_on, load = threading.Event(), threading.Event(), Expert._load_one

    def slowly(self: Expert, *pair: Any) -> None:
        if self.member == "expert-2":
            loading.set()
            assert go_on.wait(LIMIT)
        load(self, *pair)

    fabric = LocalFabric()
    async with running_pod(
        fabric, oracle_dirs["plain"], Shape(expert=2), announce=0.05, publish=3600.0
    ) as pod:
        await pod.crash("supervisor-0")
        routing, directory = pod.router.engine._directory.routing, pod.router.engine._directory
        copies: list[int] = []
        directory.listen(lambda: copies.append(fewest(routing)))
        everything = {
            layer: to_bitmap(range(routing.experts), routing.experts) for layer in routing.moe_layers
        }
        both = dict.fromkeys(("expert-0", "expert-1"), everything)
        last = dict.fromkeys(("expert-1", "expert-2"), everything)
        async with asyncio.timeout(LIMIT):
            for shard in shards(pod):
                await shard.on_placement(Placement(STALE_EPOCH, "test", both))
            while fewest(routing) < 2:
                await pod.router.view.changed(0.05)
            monkeypatch.setattr(Expert, "_load_one", slowly)
            copies.clear()
            third = await pod.start("expert", 2, fabric, oracle_dirs["plain"], announce=0.05)
            assert isinstance(third, Expert)
            for shard in shards(pod):
                await shard.on_placement(Placement(STALE_EPOCH + 1, "test", last))
            while not loading.is_set():
                await pod.router.view.changed(0.05)
            await announcements(pod, shards(pod)[0], 4)
            assert shards(pod)[0]._experts.held
            go_on.set()
            while shards(pod)[0]._experts.held:
                await pod.router.view.changed(0.05)
        assert min(copies) == 2


def fewest(routing: RoutingTable) -> int:
    """Holders of the expert that fewest shards hold."""
    return min(
        len(routing.holders(layer, expert))
        for layer in routing.moe_layers
        for expert in range(routing.experts)
    )


async def test_experts_leave_between_two_calls(
    oracle_dirs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever frees weights beside the thread that computes takes them from under a call."""
    threads: list[str] = []
    drop = ExpertSet.drop

    def watched(self: ExpertSet, layer: int, expert: int) -> None:
        threads.append(threading.current_thread().name)
        drop(self, layer, expert)

    monkeypatch.setattr(ExpertSet, "drop", watched)
    fabric, model = LocalFabric(), oracle_dirs["plain"]
    async with running_pod(fabric, model, Shape(expert=1), copies=1, publish=0.3, announce=0.3) as pod:
        await pod.start("expert", 1, fabric, model)
        async with asyncio.timeout(LIMIT):
            while not all(shard._experts.held for shard in shards(pod)) or not threads:
                await pod.router.view.changed(0.05)
        assert set(threads) == {"compute"}


def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was lost is waited for as long as a test may take."""
    monkeypatch.setattr("xpod.supervisor.supervisor.Planner", partial(Planner, patience=10 * LIMIT))


async def until_held(pod: Pod, holders: int) -> None:
    """Returns once each expert has so many holders."""
    routing = pod.router.engine._directory.routing
    async with asyncio.timeout(LIMIT):
        while fewest(routing) < holders:
            await pod.router.view.changed(0.05)


async def test_nobody_loads_what_a_lost_shard_brings_back(
    oracle_dirs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its experts have another holder each, so that those who serve go on with nothing else to do."""
    patient(monkeypatch)
    loaded: list[str] = []
    load = Expert._load_one

    def watched(self: Expert, *pair: Any) -> None:
        loaded.append(self.member)
        load(self, *pair)

    fabric, model = LocalFabric(), oracle_dirs["plain"]
    async with running_pod(fabric, model, Shape(expert=3), publish=0.3, announce=0.3) as pod:
        await until_held(pod, 2)
        monkeypatch.setattr(Expert, "_load_one", watched)
        await pod.crash("expert-0")
        for shard in shards(pod):
            await announcements(pod, shard, 4)
        assert loaded == []
        await pod.start("expert", 0, fabric, model)
        await until_held(pod, 2)
        assert set(loaded) == {"expert-0"}


async def test_an_expert_without_a_holder_is_loaded_elsewhere_at_once(
    oracle_dirs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch)
    async with running_pod(LocalFabric(), oracle_dirs["plain"], Shape(expert=2), copies=1) as pod:
        await pod.crash("expert-0")
        async with asyncio.timeout(LIMIT):
            while pod.router.engine._directory.routing.missing(["expert-1"]):
                await pod.router.view.changed(0.05)


async def test_a_shard_that_drains_serves_until_others_hold_its_experts(
    oracle_dirs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch)
    async with running_pod(LocalFabric(), oracle_dirs["plain"], Shape(expert=2), copies=1) as pod:
        routing, directory = pod.router.engine._directory.routing, pod.router.engine._directory
        missed: list[object] = []
        directory.listen(lambda: missed.extend(routing.missing()))
        leaving = pod.members["expert-0"]
        await leaving.stop("drained")
        assert missed == []
        assert routing.missing(["expert-1"]) == []


async def test_the_last_shard_leaves_though_nobody_comes_to_hold_its_experts(
    oracle_dirs: dict[str, Path],
) -> None:
    async with running_pod(LocalFabric(), oracle_dirs["plain"], Shape(expert=1)) as pod:
        async with asyncio.timeout(LIMIT / 3):
            await pod.members["expert-0"].stop("drained")
