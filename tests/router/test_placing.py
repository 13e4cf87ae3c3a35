"""Where sessions go: by what workers tell, what the prompt tree knows, and what is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from router.pod_fakes import POD, FakeMember, seen
from xpod.common.view import PodView
from xpod.router.counters import Counters
from xpod.router.placing import Place, Placing
from xpod.router.prompt_tree import PromptTree
from xpod_policy.blocks import names, namespace, salted
from xpod_policy.rendezvous import ranked
from xpod_policy.routing import Routing
from xpod_proto import Tensor
from xpod_proto.messages import Value
from xpod_runtime.local_bus import LocalBus, LocalFabric
from xpod_runtime.testing import LIMIT

ROOT = namespace("model", "print")
PROMPT = Tensor.of_tokens(range(100))
COSTS: dict[str, Value] = {"cost_step": 0.0, "cost_token": 0.001, "cost_pair": 0.0}
LOADS: dict[str, Value] = {"cost_load_call": 0.001, "cost_load_block": 0.001}
WORKERS = ("prefill-0", "prefill-1")


class Bench:
    """Two prefill workers and a MemPool node, and how a router places with each rule."""

    def __init__(self) -> None:
        fabric = LocalFabric()
        self.bus = LocalBus(fabric, "router-0")
        self.view = PodView(self.bus, POD)
        self.tree = PromptTree(self.view, self.bus, "router-0")
        self.counters = Counters(CollectorRegistry())
        detail: dict[str, Value] = {"namespace": ROOT.hex(), "step_tokens": 512}
        self.workers = {name: FakeMember(fabric, "prefill", name, **detail) for name in WORKERS}
        self.node = FakeMember(fabric, "mempool", "mempool-0")

    def placing(self, routing: Routing = Routing.PROMPT_TREE) -> Placing:
        return Placing(self.view, self.tree, routing, self.counters)

    async def start(self) -> None:
        self.view.listen(self.tree.on_member)
        await self.view.start()

    async def knows_all(self, **load: Value) -> None:
        """Returns once all are known with their blocks and their costs."""
        for member in (self.node, *self.workers.values()):
            await member.open()
            await member.heartbeat(**COSTS, **LOADS, **load)
            await seen(self.view, member.name)
        async with asyncio.timeout(LIMIT):
            while not all(self.view.table.members[name].load for name in WORKERS):
                await self.view.changed(0.05)
            await self.tree.settled()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.start()
    yield bench
    bench.tree.stop()
    await bench.bus.close()


def placed(placing: Placing, *, prompt: Tensor = PROMPT, salt: str = "", talk: str = "") -> Place:
    place = placing.prefill(prompt, salt, talk, ())
    assert place is not None
    return place


async def test_a_prompt_goes_to_its_prefix(bench: Bench) -> None:
    bench.workers["prefill-1"].blocks = set(list(names(ROOT, PROMPT.data))[:3])
    await bench.knows_all()
    place = placed(bench.placing())
    assert (place.member.name, place.cached, place.amount) == ("prefill-1", 48, 52)
    assert place.seconds == pytest.approx(0.052)
    salty = placed(bench.placing(), salt="another tenant")
    assert (salty.member.name, salty.cached) == ("prefill-0", 0)


async def test_a_salted_prompt_goes_to_its_prefix(bench: Bench) -> None:
    bench.workers["prefill-1"].blocks = set(names(salted(ROOT, "me"), PROMPT.data))
    await bench.knows_all()
    assert placed(bench.placing(), salt="me").cached == 99
    assert placed(bench.placing(), salt="you").cached == placed(bench.placing()).cached == 0


async def test_what_the_pool_has_counts_for_everybody(bench: Bench) -> None:
    bench.node.blocks = set(list(names(ROOT, PROMPT.data))[:6])
    await bench.knows_all()
    place = placed(bench.placing())
    assert (place.member.name, place.cached, place.amount) == ("prefill-0", 96, 4)
    assert place.seconds == pytest.approx(0.004 + 0.001 + 0.006)


async def test_what_is_on_its_way_counts_until_a_heartbeat(bench: Bench) -> None:
    bench.workers["prefill-1"].blocks = set(list(names(ROOT, PROMPT.data))[:3])
    await bench.knows_all()
    placing = bench.placing()
    went = []
    for _ in range(3):
        place = placed(placing)
        placing.sends(place)
        went.append(place.member.name)
    assert went == ["prefill-1", "prefill-0", "prefill-1"]
    for name in WORKERS:
        placing.heartbeat(name)
    assert placed(placing).member.name == "prefill-1"


@pytest.mark.parametrize("told", [{"queued_tokens": 60}, {"queued_tokens": 0, "queued_seconds": 0.06}])
async def test_what_waits_outweighs_a_prefix(bench: Bench, told: dict[str, Value]) -> None:
    bench.workers["prefill-1"].blocks = set(list(names(ROOT, PROMPT.data))[:3])
    await bench.knows_all()
    bench.view.table.members["prefill-1"].load.update(told)
    assert placed(bench.placing()).member.name == "prefill-0"


async def test_those_to_avoid_are_avoided(bench: Bench) -> None:
    await bench.knows_all()
    placing = bench.placing()
    place = placing.prefill(PROMPT, "", "", {"prefill-0"})
    assert place is not None
    assert place.member.name == "prefill-1"
    assert placing.prefill(PROMPT, "", "", set(WORKERS)) is None


async def test_other_rules(bench: Bench) -> None:
    bench.workers["prefill-1"].blocks = set(names(ROOT, PROMPT.data))
    await bench.knows_all()
    turns = bench.placing(Routing.ROUND_ROBIN)
    assert [placed(turns).member.name for _ in range(3)] == ["prefill-0", "prefill-1", "prefill-0"]
    talks = bench.placing(Routing.SESSION)
    for talk in ("a", "b", "c", "d"):
        assert placed(talks, talk=talk).member.name == ranked(talk.encode(), WORKERS)[0]
    least = bench.placing(Routing.LEAST_LOAD)
    place = placed(least)
    assert place.member.name == "prefill-0"
    least.sends(place)
    assert placed(least).member.name == "prefill-1"


async def test_a_worker_that_tells_nothing(bench: Bench) -> None:
    """It is older: neither names nor costs."""
    for worker in bench.workers.values():
        worker.detail.clear()
    await bench.knows_all()
    for name in WORKERS:
        bench.view.table.members[name].load.clear()
    bench.view.table.members["prefill-0"].load["queued_tokens"] = 10
    place = placed(bench.placing())
    assert place == Place(bench.view.table.members["prefill-1"], 100)


async def test_expected_tokens_are_counted_once_taken(bench: Bench) -> None:
    bench.workers["prefill-1"].blocks = set(names(ROOT, PROMPT.data))
    await bench.knows_all()
    placing = bench.placing()
    place = placed(placing)
    placing.sends(place)
    placing.taken(place)
    (family,) = bench.counters.routed_prefix.collect()
    assert family.samples[0].value == 99


async def test_decode_and_whoever_has_it(bench: Bench) -> None:
    await bench.knows_all()
    placing = bench.placing()
    assert placing.decode(1, ()) is None
    assert placing.holder("prefill", "prefill-1") == Place(bench.view.table.members["prefill-1"])
    assert placing.holder("prefill", "prefill-9") is placing.holder("decode", "prefill-1") is None
