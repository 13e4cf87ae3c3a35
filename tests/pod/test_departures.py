"""What a NATS server tells of ended connections, and what is made of it."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from pod.harness import LIMIT, Pod, Shape, cut, first, greedy, running_pod
from xpod.common.view import PodView
from xpod_policy.membership import Change
from xpod_proto import PROTOCOL_VERSION, Hello, subjects
from xpod_runtime.local_bus import LocalFabric
from xpod_runtime.nats_bus import NatsBus
from xpod_runtime.testing import hang, running_broker

PROMPT = list(range(20))


def tell_departed(view: PodView, name: str) -> None:
    """As a server does; the bus in memory has no such events of its own."""
    for connection in (name, f"{name}.control"):
        view._departures.put_nowait(connection)


async def seen(pod: Pod, name: str, state: str) -> None:
    async with asyncio.timeout(LIMIT):
        while pod.router.view.table.members[name].state != state:
            await pod.router.view.changed(0.05)


async def test_who_has_no_subscription_left_is_down_at_once(oracle_dirs: dict[str, Path]) -> None:
    fabric = LocalFabric()
    async with running_pod(fabric, oracle_dirs["plain"], Shape(decode=2), heartbeat=60.0) as pod:
        await pod.crash("decode-1")
        tell_departed(pod.router.view, "decode-1")
        await seen(pod, "decode-1", "down")  # heartbeats would take minutes


async def test_a_server_that_tells_of_old_connections_takes_nobody_down(oracle_dirs: dict[str, Path]) -> None:
    """It hung, everybody went to another one, and now it wakes up and sees its old connections closed."""
    fabric = LocalFabric()
    changes: list[Change] = []

    async def note(change: Change) -> None:
        changes.append(change)

    async with running_pod(fabric, oracle_dirs["plain"]) as pod:
        session = await pod.router.engine.open(PROMPT, greedy(40, ignore_eos=True))
        await first(session, 3)
        pod.router.view.listen(note)
        views = [member.view for member in pod.members.values() if member.view.table.members]
        for view in views:
            for name in pod.members:
                tell_departed(view, name)
        outputs = [output async for output in session]
        async with asyncio.timeout(LIMIT):
            while any(not view._departures.empty() or view._probes.confirming for view in views):
                await pod.router.view.changed(0.05)
        assert len(views) == 7
        assert len(outputs) == 37
        assert (changes, session.recoveries) == ([], 0)


@pytest.mark.parametrize("name", ["decode-1", "router-1"])
async def test_a_killed_member_is_down_at_once_on_a_real_server(
    nats: str, oracle_dirs: dict[str, Path], name: str
) -> None:
    async with running_pod(nats, oracle_dirs["plain"], Shape(decode=2, router=2), heartbeat=60.0) as pod:
        await pod.crash(name)
        await seen(pod, name, "down")


@pytest.mark.parametrize("kind", ["decode", "expert", "mempool"])
async def test_who_hangs_while_somebody_waits_is_down_without_a_late_heartbeat(
    oracle_dirs: dict[str, Path], kind: str
) -> None:
    """By streams, calls of experts that nobody else has, and what is asked of MemPool."""
    fabric = LocalFabric()
    shape = Shape(decode=2, expert=2, mempool=2)
    async with running_pod(fabric, oracle_dirs["plain"], shape, copies=1) as pod:
        for member in pod.members.values():
            member.view.table.interval = 60.0
        fabric.plan = cut(f"{kind}-0", "cut off")
        streams = [pod.generate([*PROMPT, number], greedy(60, ignore_eos=True)) for number in range(4)]
        assert {len(tokens) for tokens in await asyncio.gather(*streams)} == {60}
        watching = [member.view for member in pod.members.values() if kind in member.watches]
        async with asyncio.timeout(LIMIT):
            while all(view.table.members[f"{kind}-0"].alive for view in watching):
                await pod.router.view.changed(0.05)


async def test_who_cannot_reach_its_own_server_judges_nobody(tmp_path: Path) -> None:
    """It hears of nobody, because its server hangs, and not because all are gone."""
    async with running_broker(tmp_path) as broker:
        bus = await NatsBus.connect(broker.url, "me", wait=LIMIT, ping_seconds=LIMIT)
        view = PodView(bus, "pod")
        await view.start()
        hello = Hello("decode-0", "decode", "i", 1, "h", PROTOCOL_VERSION, "", "up", 0.0, {})
        await bus.publish(subjects.hello("pod"), hello)
        async with asyncio.timeout(LIMIT):
            while "decode-0" not in view.table.members:
                await view.changed(0.05)
        hang(broker.pid)
        try:
            view._probes.ask(view.table.members["decode-0"])
            async with asyncio.timeout(LIMIT):
                await asyncio.gather(*view._probes._asked.values())
            assert view.table.members["decode-0"].state == "up"
        finally:
            broker.signal(signal.SIGCONT)
        view._probes.ask(view.table.members["decode-0"])
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*view._probes._asked.values())
        assert view.table.members["decode-0"].state == "down", "now its silence says something"
        await bus.close()
