"""Who sends much waits for it; others do not."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pod.harness import LIMIT, first, greedy, running_pod
from xpod.prefill.worker import Prefill
from xpod.router.api.engine_protocol import Affinity
from xpod_runtime.local_bus import LocalFabric

FLOOD = 24


def prompt(number: int) -> list[int]:
    """300 tokens that no other one begins with."""
    return [number + 1, *(token % 50 for token in range(299))]


async def test_a_flood_of_one_tenant_does_not_hold_up_another(oracle_dirs: dict[str, Path]) -> None:
    async with running_pod(LocalFabric(), oracle_dirs["plain"]) as pod:
        engine, begun = pod.router.engine, list[str]()

        async def one(name: str, number: int) -> None:
            session = await engine.open(prompt(number), greedy(4), affinity=Affinity(tenant=name))
            await first(session, 1)
            begun.append(name)
            async for _ in session:
                pass

        async with asyncio.timeout(LIMIT):
            flood = [asyncio.create_task(one("loud", number)) for number in range(FLOOD)]
            while engine.waiting < FLOOD // 2:
                await pod.router.view.changed(0.01)
            quiet = asyncio.create_task(one("quiet", FLOOD))
            await asyncio.gather(*flood, quiet)
        assert len(begun) == FLOOD + 1
        assert begun.index("quiet") < FLOOD // 2
        assert engine.waiting == 0


async def test_a_prompt_of_another_does_not_wait_for_the_step_that_runs(oracle_dirs: dict[str, Path]) -> None:
    async with running_pod(LocalFabric(), oracle_dirs["plain"]) as pod:
        engine = pod.router.engine
        (prefill,) = pod.of("prefill")
        assert isinstance(prefill, Prefill)

        async def one(name: str, number: int) -> list[tuple[int, str]]:
            session = await engine.open(prompt(number), greedy(4), affinity=Affinity(tenant=name))
            return [(output.token, output.logprob.hex()) async for output in session]

        async with asyncio.timeout(LIMIT):
            undisturbed = [await one("quiet", number) for number in range(4)]
            assert not prefill.load()["steps_between"]
            flood = [asyncio.create_task(one("loud", 10 + number)) for number in range(FLOOD)]
            while engine.waiting < FLOOD // 2:
                await pod.router.view.changed(0.01)
            assert [await one("other", number) for number in range(4)] == undisturbed
            await asyncio.gather(*flood)
        assert prefill.load()["steps_between"]
