"""One measurement of the hop: a pod, its attention side, an echo, and all rounds.

Knows: what is started in which order, and that all of it ends, however the measurement does.
Does not know: options, or how results look.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from xpod.cli.bench.compare.disturbance import Disturbance
from xpod.cli.bench.compare.summary import spread
from xpod.cli.bench.hop.attention import DTYPE, Attention, attending
from xpod.cli.bench.hop.echo import Echo, echoing
from xpod.cli.bench.hop.exchange import Exchanger
from xpod.cli.bench.hop.questions import Questions
from xpod.cli.bench.hop.rounds import Found, Plan, measure, warm_up
from xpod.cli.bench.hop.summary import summary
from xpod.cli.errors import CliError
from xpod.cli.own_pod import OwnPod, own_pod
from xpod_model.config import ModelConfig, load_config
from xpod_runtime.errors import XpodError
from xpod_runtime.process import spare_the_collector

Json = dict[str, Any]
FEWEST = {"router": 1, "prefill": 1, "decode": 1, "mempool": 1, "supervisor": 1}
"""What a pod has beside shards; none of it has anything to do meanwhile."""


class HopRun:
    """What it has found can be asked for at any time."""

    def __init__(self, model: Path, shards: int, plan: Plan) -> None:
        self._model, self._shards, self._plan = model, shards, plan
        self._config = load_config(model)
        if not self._config.moe_layers:
            raise CliError(f"--model: {model} has no layer with experts")
        self.found = Found()

    def measure(self) -> None:
        """Raises CliError where something cannot be started, or the pod fails."""
        counts = {**FEWEST, "expert": self._shards}
        with own_pod(self._model, counts, dtype=DTYPE) as pod, echoing(pod.state().nats_urls[0]) as echo:
            self.found.pod = {"processes": pod.counts()}
            with _warnings_only():
                asyncio.run(self._measure(pod, echo))

    def parts(self) -> Json:
        """Of the report."""
        config, plan, found = self._config, self._plan, self.found
        return {
            "parameters": {
                "model": {"name": self._model.name, **_sizes(config)},
                "rows": list(plan.rows),
                "rounds": plan.rounds,
                "seed": plan.seed,
                "dtype": DTYPE,
            },
            "pod": found.pod,
            "figures": summary(found.exchanges),
            "repeated": found.repeated,
            "others_cores": spread([found.others_cores]),
            "exchanges": found.exchanges,
        }

    async def _measure(self, pod: OwnPod, echo: Echo) -> None:
        try:
            async with attending(pod, self._config) as attention:
                self.found.pod |= {"held": attention.held(), "frames": attention.frames}
                disturbance = Disturbance([*(pid for _, pid in pod.processes()), echo.pid])
                try:
                    with _collector_spared():
                        await attention.compute.run(self._exchange, attention, echo)
                finally:
                    others = disturbance.cores()
                    self.found.others_cores = None if others is None else round(others, 3)
        except XpodError as error:
            raise CliError(f"the pod failed: {error}") from error

    def _exchange(self, attention: Attention, echo: Echo) -> None:
        """On the computing thread."""
        questions = Questions(self._config, self._plan.seed)
        exchange = Exchanger(attention.hop, attention.line, questions).exchange
        warm_up(exchange, self._plan, len(self._config.moe_layers))
        measure(exchange, echo.ask, self._plan, self.found)


@contextmanager
def _collector_spared() -> Iterator[None]:
    """As in a member that is up."""
    thresholds, callbacks = gc.get_threshold(), list(gc.callbacks)
    spare_the_collector()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        gc.callbacks[:] = callbacks


def _sizes(config: ModelConfig) -> Json:
    names = ("hidden", "experts", "experts_per_token", "expert_width")
    return {"moe_layers": len(config.moe_layers), **{name: getattr(config, name) for name in names}}


@contextmanager
def _warnings_only() -> Iterator[None]:
    """Of what a member would log, and on stderr."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        yield
    finally:
        structlog.configure(**before)
