"""KV that leaves while its step computes, in a whole pod: no bit depends on it, whatever becomes of the messages."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from pod.harness import LIMIT, Pod, Shape, running_pod, worker
from xpod.mempool.node import MemPool
from xpod.router.api.engine_protocol import Output
from xpod_policy.blocks import block_refs
from xpod_proto import BlockPart, SamplingSpec
from xpod_runtime.fault_plan import Fault, FaultPlan, Rule
from xpod_runtime.local_bus import LocalFabric

SHAPE = Shape(mempool=2)
PROMPTS = [[(7 * number + 3 * place) % 250 for place in range(40 + 37 * number)] for number in range(3)]
CALLS, MAILBOXES = "test.v1.expert.*.calls", "test.v1.mempool.*"
OPTIONS: dict[str, object] = {"max_num_batched_tokens": 64, "micro_batch_tokens": 8, "layerwise": True}
Blocks = dict[bytes, tuple[int, int, bytes]]
Expected = tuple[list[list[Output]], Blocks]


async def answers(pod: Pod, prompts: Sequence[list[int]] = PROMPTS) -> list[list[Output]]:
    specs = [
        SamplingSpec(seed=number, max_tokens=6, temperature=float(number % 2), ignore_eos=True, logprobs=2)
        for number in range(len(prompts))
    ]
    return list(await asyncio.gather(*(pod.generate(*each) for each in zip(prompts, specs, strict=True))))


def nodes(pod: Pod) -> list[MemPool]:
    return [member for member in pod.of("mempool") if isinstance(member, MemPool)]


async def blocks_of(pod: Pod, node: MemPool) -> Blocks:
    """What a node has of the prompts, once nothing is on its way any more."""
    prefill = worker(pod, "prefill-0")
    while late := [task for task in prefill.pool._late if not task.done()]:
        await asyncio.gather(*late)
    names = [ref.name for prompt in PROMPTS for ref in block_refs(prefill.root, prompt)]
    found = await node.tiers.read(names)
    return {name: (block.tokens, block.checksum, bytes(block.data)) for name, block in found.items()}


class Fills:
    """Parts as they arrive at the nodes."""

    def __init__(self, pod: Pod) -> None:
        self.parts: Counter[str] = Counter()
        self.offsets: set[int] = set()
        self.arrived = asyncio.Event()
        for node in nodes(pod):
            self._watch(node)

    def _watch(self, node: MemPool) -> None:
        fill = node.allocation.fill

        def noted(parts: Sequence[BlockPart]) -> list[bool]:
            self.parts[node.member] += len(parts)
            self.offsets |= {part.offset for part in parts}
            self.arrived.set()
            return fill(parts)

        node.allocation.fill = noted  # type: ignore[method-assign]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("model", ["plain", "dense-among"])
async def test_no_bit_depends_on_it(
    oracle_dirs: dict[str, Path], tmp_path: Path, model: str, dtype: str
) -> None:
    said: list[list[list[Output]]] = []
    there: list[Blocks] = []
    for layerwise in (True, False):
        options = {**OPTIONS, "layerwise": layerwise, "dtype": dtype, "data": tmp_path / f"{layerwise}"}
        async with running_pod(LocalFabric(), oracle_dirs[model], SHAPE, **options) as pod:
            fills = Fills(pod)
            said.append(await answers(pod))
            there += [await blocks_of(pod, node) for node in nodes(pod)]
            assert (sorted(fills.parts) == ["mempool-0", "mempool-1"]) == layerwise
    assert said[0] == said[1]
    assert len(there[0]) == sum(-(-len(prompt) // 16) for prompt in PROMPTS)
    assert there == [there[0]] * 4


@pytest.fixture
async def expected(oracle_dirs: dict[str, Path], tmp_path: Path) -> Expected:
    """Without it."""
    options = {**OPTIONS, "layerwise": False, "data": tmp_path / "calm"}
    async with running_pod(LocalFabric(), oracle_dirs["dense-among"], Shape(), **options) as pod:
        return await answers(pod), await blocks_of(pod, nodes(pod)[0])


async def test_blocks_arrive_before_the_last_layer_is_computed(
    oracle_dirs: dict[str, Path], tmp_path: Path, expected: Expected
) -> None:
    """Of five layers the second alone asks experts. While these are not asked, three layers cannot be computed."""
    fabric = LocalFabric()
    async with running_pod(fabric, oracle_dirs["dense-among"], SHAPE, **{**OPTIONS, "data": tmp_path}) as pod:
        fills = Fills(pod)
        fabric.plan = FaultPlan([Rule(Fault.HOLD, CALLS)])
        streams = asyncio.create_task(answers(pod))
        await asyncio.wait_for(fills.arrived.wait(), LIMIT)
        assert fabric.held
        assert fills.offsets == {0}
        fabric.plan = FaultPlan()
        fabric.release()
        assert await streams == expected[0]
        assert len(fills.offsets) > 1
        assert [await blocks_of(pod, node) for node in nodes(pod)] == [expected[1]] * 2


async def test_nodes_without_room(oracle_dirs: dict[str, Path], tmp_path: Path, expected: Expected) -> None:
    """In memory; their disks have some."""
    options = {**OPTIONS, "mempool_bytes": 1, "data": tmp_path}
    async with running_pod(LocalFabric(), oracle_dirs["dense-among"], SHAPE, **options) as pod:
        fills = Fills(pod)
        assert await answers(pod) == expected[0]
        assert [await blocks_of(pod, node) for node in nodes(pod)] == [expected[1]] * 2
        assert not fills.parts


@pytest.mark.parametrize("mempool", [1, 2])
async def test_a_node_dies_while_blocks_arrive(
    oracle_dirs: dict[str, Path], tmp_path: Path, expected: Expected, mempool: int
) -> None:
    fabric, options = LocalFabric(), {**OPTIONS, "silence_timeout": 0.3, "data": tmp_path}
    async with running_pod(fabric, oracle_dirs["dense-among"], Shape(mempool=mempool), **options) as pod:
        worker(pod, "prefill-0").pool._timeout = 0.5
        fills = Fills(pod)
        fabric.plan = FaultPlan([Rule(Fault.HOLD, CALLS)])
        streams = asyncio.create_task(answers(pod))
        await asyncio.wait_for(fills.arrived.wait(), LIMIT)
        await pod.crash(max(fills.parts))
        fabric.plan = FaultPlan()
        fabric.release()
        assert await streams == expected[0]
        assert [await blocks_of(pod, node) for node in nodes(pod)] == [expected[1]] * (mempool - 1)


FAULTS = [
    Rule(Fault.DROP, MAILBOXES, probability=0.2, limit=6),
    Rule(Fault.DROP, "_INBOX.>", source="mempool-0", probability=0.5, limit=4),
    Rule(Fault.DUPLICATE, MAILBOXES),
    Rule(Fault.REORDER, MAILBOXES, probability=0.3, limit=6),
    Rule(Fault.CORRUPT, MAILBOXES, probability=0.3, min_size=2000, limit=6),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda rule: f"{rule.fault.value} {rule.subject}")
async def test_on_a_disturbed_network(
    oracle_dirs: dict[str, Path], tmp_path: Path, expected: Expected, fault: Rule
) -> None:
    fabric = LocalFabric()
    async with running_pod(fabric, oracle_dirs["dense-among"], SHAPE, **{**OPTIONS, "data": tmp_path}) as pod:
        worker(pod, "prefill-0").pool._timeout = 0.5
        fabric.plan = plan = FaultPlan([fault], seed=7)
        assert await answers(pod) == expected[0]
        assert plan.rules[0].hits > 0
        fabric.plan = FaultPlan()
        for node in nodes(pod):
            assert (await blocks_of(pod, node)).items() <= expected[1].items()
        assert pod.router.engine.divergences == 0
