"""All combinations in turn, round after round: a pod for each, and the same conversations with it.

Knows: the order, that only one pod runs at a time, and that every pod has to give the same answers.
Does not know: options, or how results look. What it has found can be read at any time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from xpod.cli.bench.compare.disturbance import Disturbance
from xpod.cli.bench.compare.rounds import in_turn
from xpod.cli.bench.compare.summary import spread
from xpod.cli.bench.conversation import Shape, conversations
from xpod.cli.bench.pods import Pods, Serving
from xpod.cli.bench.showing import say
from xpod.cli.bench.talk import talking, warmup_of
from xpod.cli.bench.turns.record import request_record, run_record
from xpod.cli.bench.turns.summary import summary
from xpod.cli.bench.turns_load import Turn, TurnsLoad
from xpod.cli.reuse import Reuse

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """`vocab`: token ids of prompts are below it."""

    combinations: Sequence[Reuse]
    rounds: int
    shape: Shape
    seed: int
    vocab: int


@dataclass(slots=True)
class Answers:
    """The first answer to each turn is what the others have to be."""

    _first: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    def different(self, turns: Sequence[Turn]) -> int:
        """How many of these are others. One that is makes those after it answer another question."""
        good = [turn for turn in turns if turn.failure is None]
        return sum(
            self._first.setdefault((turn.conversation, turn.number), turn.trace.tokens) != turn.trace.tokens
            for turn in good
        )


class TurnsRun:
    """`runs`: one record for each round and combination; `requests`: one for each turn."""

    def __init__(self, pods: Pods, plan: Plan) -> None:
        self._pods, self._plan = pods, plan
        self._answers = Answers()
        self.runs: list[Json] = []
        self.requests: list[Json] = []

    def measure(self) -> None:
        """Raises CliError where a pod does not start or does not get warm."""
        plan = self._plan
        for number in range(plan.rounds):
            for reuse in in_turn(plan.combinations, number):
                say(f"round {number + 1} of {plan.rounds}: caching {reuse.caching}, routing {reuse.routing}")
                with self._pods.running(reuse) as serving:
                    self._keep(number, reuse, serving)

    def complaint(self) -> str:
        failed, different = (sum(run[name] for run in self.runs) for name in ("failed", "different"))
        found = [f"{failed} of {len(self.requests)} requests failed"] if failed else []
        found += [f"{different} of {len(self.requests)} answers differ"] if different else []
        return ", ".join(found)

    def parts(self) -> Json:
        if not self.runs:
            return {}
        plan = self._plan
        return {
            "parameters": {
                **self._pods.as_json(),
                "combinations": [asdict(reuse) for reuse in plan.combinations],
                "rounds": plan.rounds,
                "seed": plan.seed,
                "vocab": plan.vocab,
                **asdict(plan.shape),
            },
            **summary(self.runs),
            "others_cores": spread([run["others_cores"] for run in self.runs]),
            "runs": self.runs,
            "requests": self.requests,
        }

    def _keep(self, number: int, reuse: Reuse, serving: Serving) -> None:
        turns, facts = asyncio.run(self._held(serving))
        who = {"round": number, "caching": reuse.caching, "routing": reuse.routing}
        record = run_record(turns, self._plan.shape.requests)
        self.runs.append({**who, **record, "different": self._answers.different(turns), **facts})
        self.requests += [{**who, **request_record(turn)} for turn in turns]
        say(f"  {record['computed_tokens']} of {record['prompt_tokens']} prompt tokens computed")

    async def _held(self, serving: Serving) -> tuple[list[Turn], Json]:
        """The conversations with a pod that is warm, and what is to be known of it."""
        plan = self._plan
        async with talking(serving.urls) as talk:
            await talk.warm_up(serving.workers, warmup_of(plan.seed, plan.shape.prompt_tokens, plan.vocab))
            disturbance = Disturbance(serving.pids)
            turns = await TurnsLoad(talk).run(conversations(plan.shape, plan.seed, plan.vocab))
            others = disturbance.cores()
            return turns, {
                "others_cores": None if others is None else round(others, 3),
                "routers": len(serving.urls),
                "processes": serving.processes,
                "extensions": list(talk.target.extensions),
            }
