"""Supervisors that come and go: one leads, and what it wished outlives all of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pod.harness import LIMIT, Pod, Shape, greedy, running_pod
from xpod.supervisor.supervisor import Supervisor
from xpod_runtime.errors import StoreError
from xpod_runtime.local_bus import LocalFabric

PROMPT = list(range(20))


def leaders(pod: Pod) -> list[str]:
    return [member.member for member in pod.of("supervisor") if member.load()["leader"]]


def epochs(pod: Pod) -> list[object]:
    return [member.load()["placement_epoch"] for member in pod.of("expert")]


async def until_led_by(pod: Pod, names: set[str]) -> str:
    """Returns who leads once exactly one of `names` does."""
    async with asyncio.timeout(LIMIT):
        while not (len(found := leaders(pod)) == 1 and found[0] in names):
            await pod.router.view.changed(0.05)
    return found[0]


async def until_placed(pod: Pod, above: int) -> None:
    """Returns once every shard follows a wish above that epoch and every expert is held."""
    async with asyncio.timeout(LIMIT):
        while not (
            all(isinstance(epoch, int) and epoch > above for epoch in epochs(pod))
            and pod.router.engine.ready()[0]
        ):
            await pod.router.view.changed(0.05)


async def test_the_lease_goes_to_another_and_wishes_go_on_above_the_last(
    nats: str, oracle_dirs: dict[str, Path]
) -> None:
    model = oracle_dirs["plain"]
    async with running_pod(nats, model, Shape(supervisor=2)) as pod:
        first = await until_led_by(pod, {"supervisor-0", "supervisor-1"})
        whole = await pod.generate(PROMPT, greedy(8))
        before = max(epoch for epoch in epochs(pod) if isinstance(epoch, int))
        await pod.crash(first)
        second = await until_led_by(pod, {"supervisor-0", "supervisor-1"} - {first})
        await pod.start("expert", 2, nats, model)
        await until_placed(pod, before)
        await pod.start("supervisor", int(first[-1]), nats, model)
        assert await until_led_by(pod, {second}) == second, "who comes back does not take it away"
        assert await pod.generate(PROMPT, greedy(8)) == whole


async def test_a_shard_starts_without_a_supervisor(nats: str, oracle_dirs: dict[str, Path]) -> None:
    """From the wish that the store has; with all shards lost and no supervisor left, the pod serves again."""
    model = oracle_dirs["plain"]
    async with running_pod(nats, model) as pod:
        whole = await pod.generate(PROMPT, greedy(8))
        for name in ("supervisor-0", "expert-0", "expert-1"):
            await pod.crash(name)
        for index in (0, 1):
            await pod.start("expert", index, nats, model)
        await until_placed(pod, 0)
        assert await pod.generate(PROMPT, greedy(8)) == whole


async def test_a_new_supervisor_is_heard_by_shards_that_follow_an_older_one(
    oracle_dirs: dict[str, Path],
) -> None:
    """It cannot read the store, and begins to count at 1."""
    fabric, model = LocalFabric(), oracle_dirs["plain"]
    async with running_pod(fabric, model) as pod:
        for _ in range(2):  # the first wish, and two more
            await pod.crash("expert-1")
            await pod.start("expert", 1, fabric, model)
            await until_placed(pod, max(int(str(epoch)) for epoch in epochs(pod)) - 1)
        last = max(int(str(epoch)) for epoch in epochs(pod))
        await pod.crash("supervisor-0")
        for shelf in fabric.shelves.values():
            shelf.answers = False
        supervisor = await pod.start("supervisor", 0, fabric, model)
        assert isinstance(supervisor, Supervisor)
        await until_placed(pod, last)


async def test_a_leader_whom_the_store_forsakes_gives_way(
    oracle_dirs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or both would place for as long as that lasts, each above the other."""
    async with running_pod(LocalFabric(), oracle_dirs["plain"], Shape(supervisor=2)) as pod:
        first = await until_led_by(pod, {"supervisor-0", "supervisor-1"})

        async def silent() -> tuple[str, int]:
            raise StoreError("no answer")

        forsaken = next(each for each in pod.of("supervisor") if each.member == first)
        assert isinstance(forsaken, Supervisor)
        monkeypatch.setattr(forsaken._shelf, "lease", silent)
        await until_led_by(pod, {"supervisor-0", "supervisor-1"} - {first})


async def test_a_pod_without_a_store_serves(oracle_dirs: dict[str, Path]) -> None:
    fabric = LocalFabric()
    for name in ("test-pod", "test-sessions"):
        fabric.shelves[name].answers = False
    async with running_pod(fabric, oracle_dirs["plain"], Shape(supervisor=2)) as pod:
        assert await until_led_by(pod, {"supervisor-0"}) == "supervisor-0"
        assert len(await pod.generate(PROMPT, greedy(8, ignore_eos=True))) == 8
