"""A whole pod on a network that delays, loses, doubles, reorders and cuts: every stream goes on, to the bit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from pod.harness import KINDS, LIMIT, Pod, Shape, cut, running_pod
from xpod.attention.worker import Worker
from xpod.router.api.engine_protocol import Output
from xpod.router.router import Router
from xpod_proto import SamplingSpec
from xpod_runtime.fault_plan import Fault, FaultPlan, Rule
from xpod_runtime.local_bus import LocalFabric

pytestmark = pytest.mark.asyncio(loop_scope="module")
SHAPE = Shape(**dict.fromkeys(KINDS, 2))
STREAMS, TOKENS = 2, 16
DELAY, ANSWER_SECONDS = 0.004, 0.5
OPTIONS = {
    "silence_timeout": 0.3,
    "max_num_batched_tokens": 32,
    "announce": 0.3,
    "publish": 0.3,
    "caching": "basic",
}
Answer = list[Output]


def asked() -> list[tuple[list[int], SamplingSpec]]:
    """Prompts of several lengths; half of the answers are greedy, half are drawn."""
    return [
        (
            [(7 * number + place) % 250 for place in range(20 + 25 * number)],
            SamplingSpec(
                seed=number, max_tokens=TOKENS, temperature=float(number % 2), ignore_eos=True, logprobs=2
            ),
        )
        for number in range(STREAMS)
    ]


async def answers(pod: Pod) -> list[Answer]:
    """What the streams say; no block of a former run spares a worker its work (see `OPTIONS`)."""
    return list(await asyncio.gather(*(pod.generate(prompt, spec) for prompt, spec in asked())))


@dataclass(frozen=True)
class Bench:
    """A pod, the fabric below it, and what the streams say where nothing goes wrong."""

    pod: Pod
    fabric: LocalFabric
    expected: list[Answer]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(
    oracle_dirs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bench]:
    """One pod for all cases: each has to leave it whole."""
    options = {**OPTIONS, "data": tmp_path_factory.mktemp("data")}
    async with running_pod(LocalFabric(), oracle_dirs["plain"], Shape(), **options) as calm:
        expected = await answers(calm)
    fabric = LocalFabric(delay=DELAY)
    async with running_pod(fabric, oracle_dirs["plain"], SHAPE, **options) as pod:
        hurry(pod)
        await whole(pod)
        yield Bench(pod, fabric, expected)


def hurry(pod: Pod) -> None:
    """Nobody waits long for an answer that was lost."""
    for member in pod.members.values():
        if isinstance(member, Router):
            around = member.engine._around
            member.engine._around = replace(around, patience=replace(around.patience, answer=ANSWER_SECONDS))
        elif isinstance(member, Worker):
            member.pool._timeout = ANSWER_SECONDS


@dataclass(frozen=True)
class Case:
    """What happens to which messages: `share` of them, at most `limit` a rule; `who` sends or receives them."""

    fault: Fault
    subjects: tuple[str, ...] = (">",)
    share: float = 1.0
    who: str = ""
    limit: int | None = None

    def __str__(self) -> str:
        return f"{self.fault.value} {self.share:.0%} of {self.who or self.subjects[0]}"

    def plan(self) -> FaultPlan:
        names = (self.who, f"{self.who}.control") if self.who else ()
        ends = [(name, "*") for name in names] + [("*", name) for name in names] or [("*", "*")]
        return FaultPlan(
            [
                Rule(self.fault, subject, *end, probability=self.share, limit=self.limit)
                for subject in self.subjects
                for end in ends
            ],
            seed=5,
        )


EVERYTHING, ANSWERS = (">",), ("_INBOX.>",)
TOKEN_EVENTS, CALLS = ("test.v1.tokens.*",), ("test.v1.expert.*.calls",)
CONTROL = tuple(
    f"test.v1.{subject}"
    for subject in ("heartbeat.*", "hello", "holdings", "placement", "probe.*", "doubt", "down")
)
DISTURBED = [
    *(Case(Fault.DELAY, who=f"{kind}-0") for kind in KINDS),
    Case(Fault.DROP, TOKEN_EVENTS, 0.3),
    Case(Fault.DROP, CALLS, 0.1, limit=4),
    Case(Fault.DROP, ANSWERS, 0.1, limit=4),
    Case(Fault.DROP, CONTROL, 0.3),
    *(
        Case(Fault.DROP, (f"test.v1.{kind}.*",), limit=1)
        for kind in ("mempool", "prefill", "decode", "router")
    ),
    *(Case(Fault.DUPLICATE, subjects, 0.5) for subjects in (EVERYTHING, CALLS, ANSWERS)),
    *(Case(Fault.REORDER, subjects, 0.3, limit=4) for subjects in (TOKEN_EVENTS, CALLS, ANSWERS)),
]


@pytest.mark.parametrize("case", DISTURBED, ids=str)
async def test_streams_on_a_disturbed_network(bench: Bench, case: Case) -> None:
    pod, fabric = bench.pod, bench.fabric
    fabric.plan = plan = case.plan()
    try:
        assert await answers(pod) == bench.expected
        assert hits(plan) > 0, "the fault happened"
        assert pod.router.engine.divergences == 0
    finally:
        fabric.plan = FaultPlan()
    await whole(pod)


def hits(plan: FaultPlan) -> int:
    """Messages that met with a fault."""
    return sum(rule.hits for rule in plan.rules)


async def seen(pod: Pod, by: Iterable[str], names: Iterable[str], *states: str) -> None:
    """Returns once each of `by` sees each of `names`, as far as it watches them, in one of these states."""
    async with asyncio.timeout(LIMIT):
        for watcher in by:
            view = pod.members[watcher].view
            for name in [name for name in names if pod.members[name].kind in pod.members[watcher].watches]:
                while name not in view.table.members or view.table.members[name].state not in states:
                    await view.changed(0.05)


async def whole(pod: Pod) -> None:
    """Returns once everybody knows of everybody, and the routers of every expert, too."""
    await seen(pod, pod.members, pod.members, "up")
    await pod.ready()


OUT_OF_REACH = [
    *((kind, "cut off") for kind in KINDS),
    *((kind, way) for kind in ("router", "decode", "expert") for way in ("deaf", "mute")),
]


@pytest.mark.parametrize(("kind", "way"), OUT_OF_REACH)
async def test_streams_while_a_member_is_out_of_reach(bench: Bench, kind: str, way: str) -> None:
    """Until somebody has noticed, and again once all are back."""
    pod, fabric, victim = bench.pod, bench.fabric, f"{kind}-0"
    others = set(pod.members) - {victim}
    streams = asyncio.create_task(answers(pod))
    await under_way(pod, streams)
    fabric.plan = plan = cut(victim, way)
    try:
        if way != "deaf":
            await seen(pod, others, [victim], "down")
        else:
            await seen(pod, [victim], others, "down")
        async with asyncio.timeout(LIMIT):
            while hits(plan) < 10:
                await pod.router.view.changed(0.05)
    finally:
        fabric.plan = FaultPlan()
    assert await streams == bench.expected
    assert pod.router.engine.divergences == 0
    await whole(pod)


async def under_way(pod: Pod, streams: asyncio.Task[list[Answer]]) -> None:
    """Returns once some stream decodes; raises what ended them before."""
    workers = [member for member in pod.of("decode") if isinstance(member, Worker)]
    async with asyncio.timeout(LIMIT):
        while not any(worker.engine.sequences for worker in workers):
            assert not streams.done(), f"over already: {await streams}"
            await pod.router.view.changed(0.02)
