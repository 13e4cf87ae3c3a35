"""Cold, warm and repeated prompts, one after another, round after round.

Knows: in which order they are asked and of whom, and that the same prompt has the same answer, to the bit.
Does not know: options, or how results look. What it has found can be read at any time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from xpod.cli.bench.compare.disturbance import Disturbance
from xpod.cli.bench.compare.summary import spread
from xpod.cli.bench.load import Failure
from xpod.cli.bench.pods import Pods, Serving
from xpod.cli.bench.prefix.summary import summary
from xpod.cli.bench.showing import say
from xpod.cli.bench.talk import Talk, talking, warmup_of
from xpod.cli.bench.trace import Trace
from xpod.cli.bench.workload import FIRST_TOKEN, Job
from xpod.cli.reuse import Reuse

Json = dict[str, Any]
MS = 1000
COLD, WARM, AGAIN = "cold", "warm", "again"


@dataclass(frozen=True, slots=True)
class Lengths:
    """In tokens."""

    prefix: int = 1024
    own: int = 32
    answer: int = 16


@dataclass(frozen=True, slots=True)
class Variant:
    """`in_turn`: each request goes to the next router; else all go to one, which then has to choose another worker."""

    name: str
    reuse: Reuse
    in_turn: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """`vocab`: token ids of prompts are below it."""

    variants: Sequence[Variant]
    rounds: int
    lengths: Lengths
    seed: int
    vocab: int

    def prompts(self, variant: str, number: int) -> dict[str, list[int]]:
        """Of one round, in their order. `cold` and `warm` have their prefix in common, `again` is `cold`."""
        random = Random(f"{self.seed}:{variant}:{number}")
        prefix, own, other = (
            [random.randrange(min(FIRST_TOKEN, self.vocab - 1), self.vocab) for _ in range(count)]
            for count in (self.lengths.prefix, self.lengths.own, self.lengths.own)
        )
        return {COLD: prefix + own, WARM: prefix + other, AGAIN: prefix + own}


class PrefixRun:
    """`requests`: one record for each."""

    def __init__(self, pods: Pods, plan: Plan) -> None:
        self._pods, self._plan = pods, plan
        self.requests: list[Json] = []
        self._facts: dict[str, Json] = {}

    def measure(self) -> None:
        """Raises CliError where a pod does not start or does not get warm."""
        for variant in self._plan.variants:
            say(f"{variant.name}: caching {variant.reuse.caching}, routing {variant.reuse.routing}")
            with self._pods.running(variant.reuse) as serving:
                asyncio.run(self._measure(variant, serving))

    def complaint(self) -> str:
        failed = sum(bool(each["error"]) for each in self.requests)
        different = sum(each["different"] for each in self.requests)
        found = [f"{failed} of {len(self.requests)} requests failed"] if failed else []
        found += [f"{different} of {len(self.requests)} answers differ"] if different else []
        return ", ".join(found)

    def parts(self) -> Json:
        if not self.requests:
            return {}
        plan = self._plan
        return {
            "parameters": {
                **self._pods.as_json(),
                "variants": [asdict(variant) for variant in plan.variants],
                "rounds": plan.rounds,
                "seed": plan.seed,
                "vocab": plan.vocab,
                "tokens": asdict(plan.lengths),
            },
            "pods": self._facts,
            "figures": summary(self.requests),
            "others_cores": spread([each.get("others_cores") for each in self._facts.values()]),
            "requests": self.requests,
        }

    async def _measure(self, variant: Variant, serving: Serving) -> None:
        plan = self._plan
        length = plan.lengths.prefix + plan.lengths.own
        async with talking(serving.urls) as talk:
            await talk.warm_up(serving.workers, warmup_of(plan.seed, length, plan.vocab))
            facts: Json = {"processes": serving.processes, "extensions": list(talk.target.extensions)}
            self._facts[variant.name] = facts
            disturbance = Disturbance(serving.pids)
            for number in range(plan.rounds):
                await self._round(variant, number, talk)
            others = disturbance.cores()
            facts["others_cores"] = None if others is None else round(others, 3)

    async def _round(self, variant: Variant, number: int, talk: Talk) -> None:
        answers: dict[str, str] = {}
        for place, (name, prompt) in enumerate(self._plan.prompts(variant.name, number).items()):
            job = Job(
                number + place if variant.in_turn else 0, prompt, len(prompt), self._plan.lengths.answer
            )
            trace, failure = await talk.ask(job, logprobs=0)
            answers[name] = "" if failure else bits(trace)
            other = (
                name == AGAIN and bool(answers[COLD] and answers[AGAIN]) and answers[COLD] != answers[AGAIN]
            )
            who = {"variant": variant.name, "round": number, "request": name}
            self.requests.append({**who, **_record(trace, failure), "different": other})
        say(f"  round {number + 1} of {self._plan.rounds}")


def bits(trace: Trace) -> str:
    """The answer: its tokens, and each bit of their logprobs where the server says them."""
    return f"{trace.tokens} {[float(each).hex() for each in trace.logprobs]}"


def _record(trace: Trace, failure: Failure | None) -> Json:
    return {
        "prompt_tokens": trace.usage.get("prompt_tokens"),
        "cached_tokens": trace.cached_tokens,
        "ttft_ms": None if failure else round(trace.ttft * MS, 3),
        "error": f"{failure.kind}: {failure.message}" if failure else None,
    }
