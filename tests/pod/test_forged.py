"""Forged messages on every subject of a pod: whoever gets one goes on, and streams stay exact."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pod.forging import ENTRIES, Forger
from pod.harness import LIMIT, Shape, first, greedy, running_pod
from xpod_proto import subjects
from xpod_runtime.local_bus import LocalBus, LocalFabric

PROMPT = list(range(40))
SPEC = greedy(64, ignore_eos=True)
TALK = ("hello", "down", "doubt", "holdings", "placement", "running", "kv")


@pytest.mark.parametrize("seed", range(3))
async def test_a_pod_outlives_forged_messages(oracle_dirs: dict[str, Path], seed: int) -> None:
    fabric = LocalFabric()
    with capture_logs() as logs:
        await attacked(fabric, oracle_dirs["plain"], seed)
    failed = [entry for entry in logs if "failed" in entry["event"] and entry.get("code") != "bad_grammar"]
    assert not failed, "refused, not stumbled over"


async def attacked(fabric: LocalFabric, model: Path, seed: int) -> None:
    """A pod that has a stream under way, and another one afterwards."""
    async with running_pod(fabric, model, Shape(expert=2, decode=2, mempool=2)) as pod:
        expected = await pod.generate(PROMPT, SPEC)
        stranger = LocalBus(fabric, "stranger")
        await stranger.start()
        session = await pod.router.engine.open(PROMPT, SPEC)
        begun = await first(session, 3)
        forger = Forger(seed, list(pod.members))
        where = [
            *(member.subject for member in pod.members.values()),
            *(subjects.calls("test", member.member) for member in pod.of("expert")),
            *(getattr(subjects, name)("test") for name in TALK),
            *(subjects.heartbeat("test", kind) for kind in subjects.KINDS),
        ]
        for subject in where:
            for entry in ENTRIES:
                await stranger.publish(subject, forger.message(entry))
        async with asyncio.timeout(LIMIT):
            rest = [output async for output in session]
        assert [*begun, *rest] == expected
        assert await pod.generate(PROMPT, SPEC) == expected
        await stranger.close()
