"""A question or its answer was lost on the way: it is said again, and nothing is done twice for that."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pod.harness import first, greedy, running_pod, worker
from xpod.common import insisting
from xpod_proto import Ack, DecodeTask, PrefillTask, ReplayTokens, Tensor, TokenHistory
from xpod_runtime.errors import DeadlineExceeded
from xpod_runtime.fault_plan import Fault, FaultPlan, Rule
from xpod_runtime.local_bus import LocalFabric
from xpod_runtime.testing import LIMIT

PROMPT = list(range(40))
SPEC = greedy(8, ignore_eos=True)
MAILBOX = "test.v1.decode.decode-0"


async def test_a_lost_question_is_said_again(oracle_dirs: dict[str, Path]) -> None:
    fabric = LocalFabric()
    async with running_pod(fabric, oracle_dirs["plain"]) as pod:
        router = pod.router
        fabric.plan = FaultPlan([Rule(Fault.DROP, MAILBOX, limit=1)])
        question = ReplayTokens("s", 0)
        async with asyncio.timeout(LIMIT):
            answer = await router.view.request(router.data, "decode", "decode-0", question, timeout=2 * LIMIT)
        assert isinstance(answer, TokenHistory)
        assert fabric.plan.rules[0].hits == 1


async def test_who_lost_its_connection_is_asked_again_as_soon_as_it_has_one(
    oracle_dirs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hello says so; no patience has to run out."""
    monkeypatch.setattr(insisting, "AGAIN_SECONDS", LIMIT)
    fabric = LocalFabric()
    async with running_pod(fabric, oracle_dirs["plain"]) as pod:
        router, decode = pod.router, pod.members["decode-0"]
        fabric.plan = FaultPlan([Rule(Fault.DROP, MAILBOX, limit=1)])
        question = ReplayTokens("s", 0)
        asking = asyncio.create_task(
            router.view.request(router.data, "decode", "decode-0", question, timeout=LIMIT)
        )
        async with asyncio.timeout(LIMIT / 2):
            while not fabric.plan.rules[0].hits:
                await router.view.changed(0.05)
            decode.data.disconnect()  # type: ignore[attr-defined]
            decode.data.reconnect()  # type: ignore[attr-defined]
            assert isinstance(await asking, TokenHistory)


async def test_who_never_answers_is_asked_until_the_time_is_over(oracle_dirs: dict[str, Path]) -> None:
    fabric = LocalFabric()
    async with running_pod(fabric, oracle_dirs["plain"]) as pod:
        router = pod.router
        fabric.plan = FaultPlan([Rule(Fault.DROP, MAILBOX)])
        with pytest.raises(DeadlineExceeded):
            await router.view.request(router.data, "decode", "decode-0", ReplayTokens("s", 0), timeout=0.8)
        assert fabric.plan.rules[0].hits == 2


async def test_a_task_that_comes_again_while_it_runs_or_after_its_end(oracle_dirs: dict[str, Path]) -> None:
    """It is not computed a second time."""
    fabric = LocalFabric()
    async with running_pod(fabric, oracle_dirs["plain"]) as pod:
        router, prompt = pod.router, Tensor.of_tokens(PROMPT)
        session = await router.engine.open(PROMPT, SPEC)
        outputs = await first(session, 1)
        said = Tensor.of_tokens([outputs[0].token])
        tasks = [
            ("prefill", PrefillTask(session.id, 0, "router-0", prompt, SPEC)),
            ("decode", DecodeTask(session.id, 1, "router-0", prompt, said, SPEC)),
        ]
        outputs += [output async for output in session]
        for kind, task in tasks:
            answer = await router.view.request(router.data, kind, f"{kind}-0", task, timeout=LIMIT)
            assert answer == Ack("already through"), kind
            assert not worker(pod, f"{kind}-0").engine.sequences, kind


async def test_another_epoch_or_an_earlier_start_is_another_task(oracle_dirs: dict[str, Path]) -> None:
    fabric = LocalFabric()
    async with running_pod(fabric, oracle_dirs["plain"]) as pod:
        router, prompt = pod.router, Tensor.of_tokens(PROMPT)
        session = await router.engine.open(PROMPT, SPEC)
        outputs = [output async for output in session]
        for epoch, known in [(2, 1), (1, 0)]:
            said = Tensor.of_tokens([output.token for output in outputs[:known]])
            task = DecodeTask(session.id, epoch, "router-0", prompt, said, SPEC)
            answer = await router.view.request(router.data, "decode", "decode-0", task, timeout=LIMIT)
            assert answer == Ack(), (epoch, known)
            decode = worker(pod, "decode-0")
            async with asyncio.timeout(LIMIT):
                while decode.engine.sequences:
                    decode.see_if_idle()
                    await decode.idle.wait()
