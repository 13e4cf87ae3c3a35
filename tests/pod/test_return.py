"""Clients that come back: after a router died, with the same key, after the whole pod was lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from pod.harness import LIMIT, Pod, Shape, first, greedy, running_pod, until_empty, worker
from xpod.router.api.engine_protocol import Claim, KeyReused, Output, Session
from xpod.router.engine import RouterEngine
from xpod.router.router import Router
from xpod_policy.pages import ROUNDS
from xpod_proto import Down, SamplingSpec, subjects
from xpod_runtime.fault_plan import Fault, FaultPlan, Rule
from xpod_runtime.local_bus import LocalFabric

PROMPT = list(range(40))
SAMPLING = SamplingSpec(seed=9, max_tokens=90, temperature=1.0, ignore_eos=True, logprobs=2)
KEYED = Claim("skey", b"request", lasting=True)


def engine(pod: Pod, index: int = 0) -> RouterEngine:
    router = pod.of("router")[index]
    assert isinstance(router, Router)
    return router.engine


async def rest(session: Session) -> list[Output]:
    async with asyncio.timeout(LIMIT):
        return [output async for output in session]


async def crash_router(pod: Pod) -> None:
    """The first one, and the other knows it."""
    await pod.crash("router-0")
    (left,) = pod.of("router")
    async with asyncio.timeout(LIMIT):
        while [member.name for member in left.view.usable("router")] != ["router-1"]:
            await left.view.changed(0.05)


def computing(pod: Pod) -> list[str]:
    """Sessions that decode workers compute."""
    return [
        id for name in sorted(pod.members) if "decode" in name for id in worker(pod, name).engine.sequences
    ]


@pytest.fixture
async def pod(nats: str, oracle_dirs: dict[str, Path]) -> AsyncIterator[Pod]:
    async with running_pod(nats, oracle_dirs["plain"], Shape(decode=2, router=2)) as running:
        yield running


async def test_another_router_goes_on_with_the_worker_that_has_it(pod: Pod) -> None:
    whole = await pod.generate(PROMPT, SAMPLING)
    left = await engine(pod).open(PROMPT, SAMPLING)
    begun = await first(left, 20)
    await crash_router(pod)
    (before,) = [name for name in ("decode-0", "decode-1") if worker(pod, name).engine.sequences]
    sequence = worker(pod, before).engine.sequences[left.id]
    taken = await engine(pod).open(PROMPT, SAMPLING, Claim(left.id, start=20))
    outputs = await rest(taken)
    assert [output.token for output in outputs] == [output.token for output in whole]
    assert (begun + outputs[20:]) == whole, "to the bits of the logprobs"
    assert (taken.attached, taken.recoveries) == (True, 0)
    assert len(sequence.generated) == SAMPLING.max_tokens, "the very sequence went on"
    for name in ("decode-0", "decode-1"):
        await until_empty(worker(pod, name), 5.0)


async def test_a_session_that_nobody_knows_is_begun_again(pod: Pod) -> None:
    whole = await pod.generate(PROMPT, SAMPLING)
    taken = await engine(pod).open(PROMPT, SAMPLING, Claim("snobody", start=8))
    assert not taken.attached
    assert await rest(taken) == whole


async def test_answers_that_are_lost_are_asked_for_again(oracle_dirs: dict[str, Path]) -> None:
    """As with a NATS node that hangs at the wrong moment: the session is not begun again, it goes on."""
    fabric = LocalFabric()
    async with running_pod(fabric, oracle_dirs["plain"], Shape(router=2)) as pod:
        left = await engine(pod).open(PROMPT, SAMPLING)
        begun = await first(left, 20)
        await crash_router(pod)
        fabric.plan = FaultPlan([Rule(Fault.DROP, "test.v1.*.*", "router-1", "*", limit=2)])
        taken = await engine(pod).open(PROMPT, SAMPLING, Claim(left.id, start=20))
        assert taken.attached
        assert fabric.plan.rules[0].hits == 2
        outputs = await rest(taken)
        assert len(begun + outputs[20:]) == SAMPLING.max_tokens
        assert worker(pod, "decode-0").load()["reopened"] == 0, "the very sequence went on"


async def test_a_client_comes_back_to_its_own_router(pod: Pod) -> None:
    """Before that one has noticed that it was gone, and after."""
    whole = await pod.generate(PROMPT, SAMPLING)
    left = await engine(pod).open(PROMPT, SAMPLING)
    await first(left, 20)
    again = await engine(pod).open(PROMPT, SAMPLING, Claim(left.id, start=20))
    await left.leave()
    await first(again, 25)
    await again.leave()
    assert await rest(await engine(pod).open(PROMPT, SAMPLING, Claim(left.id, start=25))) == whole
    for name in ("decode-0", "decode-1"):
        await until_empty(worker(pod, name), 5.0)


@pytest.mark.parametrize("second", [0, 1])
async def test_a_repeated_request_runs_once(pod: Pod, second: int) -> None:
    """At the same router it shares the session, another router follows."""
    whole = await pod.generate(PROMPT, SAMPLING)
    one = await engine(pod).open(PROMPT, SAMPLING, KEYED)
    await first(one, 3)
    two = await engine(pod, second).open(PROMPT, SAMPLING, KEYED)
    await first(two, 3)
    assert computing(pod) == ["skey"]
    assert (one.attached, two.attached) == (False, True)
    both = await asyncio.gather(
        rest(await engine(pod).open(PROMPT, SAMPLING, KEYED)),
        rest(await engine(pod, second).open(PROMPT, SAMPLING, KEYED)),
    )
    assert both == [whole, whole]


async def test_who_follows_a_router_that_dies_goes_on_alone(pod: Pod) -> None:
    whole = await pod.generate(PROMPT, SAMPLING)
    await first(await engine(pod).open(PROMPT, SAMPLING, KEYED), 3)
    follower = await engine(pod, 1).open(PROMPT, SAMPLING, KEYED)
    begun = await first(follower, 10)
    await crash_router(pod)
    assert begun + await rest(follower) == whole


async def test_two_routers_that_begin_at_once_give_one_answer(pod: Pod) -> None:
    whole = await pod.generate(PROMPT, SAMPLING)
    sessions = await asyncio.gather(*(engine(pod, i).open(PROMPT, SAMPLING, KEYED) for i in (0, 1)))
    assert await asyncio.gather(*map(rest, sessions)) == [whole, whole]


async def test_a_keyed_request_goes_on_alone_and_is_remembered(pod: Pod) -> None:
    whole = await pod.generate(PROMPT, SAMPLING)
    left = await engine(pod).open(PROMPT, SAMPLING, KEYED)
    await first(left, 3)
    await left.leave()
    for second in (0, 1):
        again = await engine(pod, second).open(PROMPT, SAMPLING, KEYED)
        assert await rest(again) == whole
        assert again.attached
    assert engine(pod).live == 0


async def test_a_key_belongs_to_one_request(pod: Pod) -> None:
    other = Claim("skey", b"another", lasting=True)
    await rest(await engine(pod).open(PROMPT, greedy(5), KEYED))
    for second in (0, 1):
        with pytest.raises(KeyReused):
            await engine(pod, second).open(PROMPT, greedy(5), other)


@pytest.mark.parametrize("claim", [KEYED, Claim("splain", start=20)], ids=["with a key", "behind an event"])
async def test_a_pod_that_was_lost_goes_on_from_its_journal(
    nats: str, oracle_dirs: dict[str, Path], claim: Claim
) -> None:
    """It has to be long: of a session without a key that has ended, nothing more is written."""
    long = replace(SAMPLING, max_tokens=600)
    async with running_pod(nats, oracle_dirs["plain"], journal=0.05) as pod:
        whole = await pod.generate(PROMPT, long)
        left = await engine(pod).open(PROMPT, long, claim)
        begun = await first(left, 70)
        store = pod.router.data.store("test-sessions", lifetime=3600.0)
        async with asyncio.timeout(LIMIT):
            while "1" not in await store.below(claim.session):  # the second page
                await pod.router.view.changed(0.05)
        for name in list(pod.members):
            await pod.crash(name)
    async with running_pod(nats, oracle_dirs["plain"]) as pod:
        taken = await engine(pod).open(PROMPT, long, claim)
        assert taken.attached, "from the journal"
        assert begun + (await rest(taken))[70:] == whole
        if claim.lasting:
            with pytest.raises(KeyReused):
                await engine(pod).open(PROMPT, SAMPLING, Claim("skey", b"another", lasting=True))


async def test_the_journal_forgets_what_nobody_can_ask_for(nats: str, oracle_dirs: dict[str, Path]) -> None:
    async with running_pod(nats, oracle_dirs["plain"], journal=0.05, keep=0.2) as pod:
        store = pod.router.data.store("test-sessions", lifetime=3600.0)
        session = await engine(pod).open(PROMPT, SAMPLING, KEYED)
        await first(session, 5)
        async with asyncio.timeout(LIMIT):
            while not await store.below("skey"):
                await pod.router.view.changed(0.05)
            await rest(session)
            while await store.below("skey") or engine(pod).remembered():
                await pod.router.view.changed(0.05)


async def test_what_is_over_before_a_round_is_not_written_down(
    nats: str, oracle_dirs: dict[str, Path]
) -> None:
    async with running_pod(nats, oracle_dirs["plain"], journal=3600.0) as pod:
        journal, store = engine(pod)._journal, pod.router.data.store("test-sessions", lifetime=3600.0)
        short = await engine(pod).open(PROMPT, greedy(3))
        await rest(short)
        running = await engine(pod).open(PROMPT, greedy(500, ignore_eos=True))
        await first(running, 3)
        for _ in range(ROUNDS):
            await journal.round(engine(pod).remembered())
        assert await store.below(short.id) == {}
        assert set(await store.below(running.id)) == {"facts", "0"}
        await running.cancel()


async def test_a_worker_that_lost_its_work_while_it_hung_stops(pod: Pod) -> None:
    """It is declared dead, its session goes elsewhere, and it was alive all the time."""
    whole = await pod.generate(PROMPT, greedy(250, ignore_eos=True))
    session = await engine(pod).open(PROMPT, greedy(250, ignore_eos=True))
    await first(session, 3)
    (zombie,) = [name for name in ("decode-0", "decode-1") if worker(pod, name).engine.sequences]
    incarnation = pod.members[zombie].incarnation
    await pod.router.control.publish(subjects.down("test"), Down(zombie, incarnation, "a test says so"))
    outputs = asyncio.create_task(rest(session))
    await until_empty(worker(pod, zombie), LIMIT)
    assert not outputs.done(), "it stopped before the session ended"
    assert await outputs == whole[3:]
    assert engine(pod).divergences == 0


async def test_a_request_is_repeated_over_http(pod: Pod) -> None:
    """Without a stream and without a seed: the key gives both tries the same tokens."""
    body = {"prompt": PROMPT, "max_tokens": 60, "ignore_eos": True, "logprobs": 0}
    headers = {"Idempotency-Key": "order 7"}
    async with httpx.AsyncClient(timeout=LIMIT) as client:

        async def post(index: int, **more: object) -> httpx.Response:
            return await client.post(f"{pod.url(index)}/v1/completions", json=body | more, headers=headers)

        answers = [await post(0), await post(0), await post(1)]
        streamed = await post(1, stream=True)
        refused = await post(1, max_tokens=5)
        empty = await client.post(f"{pod.url()}/v1/completions", json=body, headers={"Idempotency-Key": ""})
    first_choices, *others = [answer.json()["choices"] for answer in answers]
    assert others == [first_choices] * 2
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, "true", "true"]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert streamed.text.count("data: {") == 60
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert (empty.status_code, empty.json()["error"]["param"]) == (400, "idempotency-key")
