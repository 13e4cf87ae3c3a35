"""A session's salt goes wherever its facts go, and whoever repeats the request has it again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pod.harness import LIMIT, Pod, Shape, first, greedy, running_pod
from xpod.router.api.engine_protocol import Affinity, Claim
from xpod.router.router import Router
from xpod_policy.blocks import namespace
from xpod_proto import DecodeTask, Message, PrefillTask, SessionFacts
from xpod_runtime.local_bus import LocalFabric

PROMPT = list(range(40))
SPEC = greedy(300, ignore_eos=True)
MINE = Affinity("mine", "talk")
Task = PrefillTask | DecodeTask


def routers(pod: Pod) -> list[Router]:
    return [router for router in pod.of("router") if isinstance(router, Router)]


def tasks_of(router: Router, monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """What it gives workers from now on."""
    tasks: list[Task] = []
    request = router.view.request

    async def noted(bus: Any, kind: str, name: str, message: Message, *, timeout: float) -> Message:
        if isinstance(message, PrefillTask | DecodeTask):
            tasks.append(message)
        return await request(bus, kind, name, message, timeout=timeout)

    monkeypatch.setattr(router.view, "request", noted)
    return tasks


def salts(tasks: Sequence[Task]) -> list[tuple[type[Task], str]]:
    return [(type(task), task.salt) for task in tasks]


async def test_the_salt_goes_where_the_session_goes(
    oracle_dirs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_pod(LocalFabric(), oracle_dirs["plain"], Shape(router=2), journal=0.05) as pod:
        ours, theirs = routers(pod)
        given, taken = tasks_of(ours, monkeypatch), tasks_of(theirs, monkeypatch)
        session = await ours.engine.open(PROMPT, SPEC, None, MINE)
        begun = await first(session, 5)
        assert salts(given) == [(PrefillTask, "mine"), (DecodeTask, "mine")]
        store = ours.data.store("test-sessions", lifetime=60.0)
        async with asyncio.timeout(LIMIT):
            while not (found := await store.below(session.id)):
                await ours.view.changed(0.05)
        facts = found["facts"]
        assert isinstance(facts, SessionFacts)
        assert facts.salt == "mine"
        await pod.crash("router-0")
        again = await theirs.engine.open(PROMPT, SPEC, Claim(session.id, start=5), MINE)
        async with asyncio.timeout(LIMIT):
            outputs = [output async for output in again]
        assert [each.token for each in outputs[:5]] == [each.token for each in begun]
        assert salts(taken) == [(DecodeTask, "mine")]


@pytest.mark.parametrize("routing", ["prompt-tree", "round-robin", "session", "least-load"])
async def test_every_rule_serves(oracle_dirs: dict[str, Path], routing: str) -> None:
    """With a pod as it is, whatever its workers tell so far."""
    root = namespace("another", "model")
    async with running_pod(LocalFabric(), oracle_dirs["plain"], Shape(prefill=2), routing=routing) as pod:
        assert pod.router.prompts.match([root]).held == {}
        answers = await asyncio.gather(*(pod.generate(PROMPT, greedy(4)) for _ in range(4)))
        assert all(answer == answers[0] for answer in answers)
