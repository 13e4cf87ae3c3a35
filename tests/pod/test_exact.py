"""One result whatever the topology: tokens and the bits of logprobs equal the one-process reference.

The fast subset runs with the other tests, the whole matrix with `make test-exact`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from pod.harness import Pod, Shape, Where, running_pod
from xpod.attention.sequence import to_sampling
from xpod_model.reference import Reference
from xpod_proto import SamplingSpec
from xpod_runtime.fault_plan import Fault, FaultPlan, Rule
from xpod_runtime.local_bus import LocalFabric

REQUESTS = 50
TOPOLOGIES = {
    "1 decode, 1 shard": (Shape(decode=1, expert=1), 1),
    "2 decode, 2 shards": (Shape(decode=2, expert=2, prefill=2, mempool=2), 1),
    "2 decode, 3 shards, each expert twice": (Shape(decode=2, expert=3, prefill=2, mempool=2), 2),
}
CHUNKS = (16, 64, 512)
BATCHES = (1, 7, 32)
MICRO_BATCHES = (1, 2)
SAMPLERS: tuple[dict[str, object], ...] = (
    {"temperature": 0.0},
    {"temperature": 0.8},
    {"temperature": 1.0, "top_k": 20},
    {"temperature": 1.1, "top_p": 0.8},
    {"temperature": 1.3, "min_p": 0.05},
    {"temperature": 0.9, "repetition_penalty": 1.3},
    {"temperature": 0.9, "presence_penalty": 0.7},
    {"temperature": 0.9, "frequency_penalty": 0.4},
    {"temperature": 0.7, "logit_bias": ((5, 4.0), (9, -100.0))},
    {"temperature": 1.0, "top_k": 50, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.1},
)
Answer = list[tuple[int, str]]


@dataclass(frozen=True)
class Request:
    prompt: list[int]
    spec: SamplingSpec
    tenant: str


def requests(count: int = REQUESTS) -> list[Request]:
    """Every sampler on several prompts; lengths around blocks and chunks, some with a common prefix."""
    draw = random.Random(11)
    shared = [draw.randrange(256) for _ in range(37)]
    out = []
    for number in range(count):
        prompt = [draw.randrange(256) for _ in range(draw.choice([1, 7, 16, 33, 64, 90]))]
        prompt = shared + prompt if number % 5 == 0 else prompt
        options = {"logprobs": 2, "ignore_eos": True, **SAMPLERS[number % len(SAMPLERS)]}
        spec = SamplingSpec(seed=1000 + number, max_tokens=24, **options)  # type: ignore[arg-type]
        out.append(Request(prompt, spec, "little" if number % 4 == 0 else "much"))
    return out


def bits(outputs: Iterator[tuple[int, float]]) -> Answer:
    """Tokens with the exact logprobs."""
    return [(token, logprob.hex()) for token, logprob in outputs]


@pytest.fixture(scope="module")
def expected(oracle_dirs: dict[str, Path]) -> dict[str, list[Answer]]:
    """The reference's answers by dtype."""
    answers: dict[str, list[Answer]] = {}
    for dtype in ("fp32", "bf16"):
        reference = Reference.load(oracle_dirs["plain"], dtype)
        answers[dtype] = [
            bits((s.token, s.logprob) for s in reference.generate(r.prompt, to_sampling(r.spec, ()), 24))
            for r in requests()
        ]
    return answers


async def ask_all(pod: Pod, asked: Sequence[Request], at_once: int, seed: int) -> list[Answer]:
    """All requests in shuffled order, at most `at_once` together; answers in the order of `asked`."""
    order = list(range(len(asked)))
    random.Random(seed).shuffle(order)
    answers: dict[int, Answer] = {}
    numbers = iter(order)

    async def one_client() -> None:
        for number in numbers:
            request = asked[number]
            outputs = await pod.generate(request.prompt, request.spec, request.tenant)
            answers[number] = bits((output.token, output.logprob) for output in outputs)

    await asyncio.gather(*(one_client() for _ in range(at_once)))
    return [answers[number] for number in range(len(asked))]


@dataclass(frozen=True)
class Case:
    """One cell of the matrix: `chunk` tokens a step, `batch` sequences in a decode worker, steps cut in `micro`."""

    topology: str
    dtype: str
    chunk: int
    batch: int
    micro: int


async def check(where: Where, model: Path, expected: list[Answer], case: Case) -> None:
    shape, copies = TOPOLOGIES[case.topology]
    asked = requests()[: len(expected)]
    sizes = {
        "max_num_batched_tokens": case.chunk,
        "max_num_seqs": case.batch,
        "micro_batches": case.micro,
        "micro_batch_tokens": 1,
    }
    async with running_pod(where, model, shape, dtype=case.dtype, copies=copies, **sizes) as pod:
        answers = await ask_all(pod, asked, case.batch * shape.decode, seed=case.chunk + case.batch)
        assert pod.router.engine.divergences == 0
    for number, (answer, right) in enumerate(zip(answers, expected, strict=True)):
        assert answer == right, f"request {number}: {asked[number].spec}"


FAST = [
    Case("1 decode, 1 shard", "fp32", 16, 7, 2),
    Case("2 decode, 2 shards", "bf16", 64, 32, 2),
    Case("2 decode, 3 shards, each expert twice", "fp32", 64, 32, 1),
]
MATRIX = [Case(*cell) for cell in product(TOPOLOGIES, ("fp32", "bf16"), CHUNKS, BATCHES, MICRO_BATCHES)]


@pytest.mark.parametrize("case", FAST, ids=str)
async def test_one_result(
    nats: str, oracle_dirs: dict[str, Path], expected: dict[str, list[Answer]], case: Case
) -> None:
    await check(nats, oracle_dirs["plain"], expected[case.dtype], case)


@pytest.mark.exact
@pytest.mark.parametrize("case", MATRIX, ids=str)
async def test_one_result_everywhere(
    nats: str, oracle_dirs: dict[str, Path], expected: dict[str, list[Answer]], case: Case
) -> None:
    await check(nats, oracle_dirs["plain"], expected[case.dtype], case)


async def test_one_result_on_a_bus_that_reorders_and_duplicates(
    oracle_dirs: dict[str, Path], expected: dict[str, list[Answer]]
) -> None:
    tokens = "test.v1.tokens.*"
    plan = FaultPlan(
        [Rule(Fault.DUPLICATE, tokens, probability=0.3), Rule(Fault.REORDER, tokens, probability=0.3)], seed=3
    )
    case = Case("2 decode, 3 shards, each expert twice", "fp32", 64, 7, 2)
    await check(LocalFabric(plan), oracle_dirs["plain"], expected["fp32"][:20], case)


def test_the_samplers_do_something(expected: dict[str, list[Answer]]) -> None:
    """No two answers are alike, so a sampler that is ignored would show."""
    assert len({str(answer) for answer in expected["fp32"]}) == REQUESTS
