"""The attention side of a pod, without attention: the hop as a decode worker has it, over a line that is watched.

Knows: how a member finds the shards and speaks to them.
Does not know: what it asks them. It says no hello, so that nobody in the pod gives it work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from xpod.attention.hop import Hop
from xpod.cli.bench.hop.watched import WatchedFrames, WatchedLine
from xpod.cli.errors import CliError
from xpod.cli.own_pod import OwnPod
from xpod.cli.shared_memory import shared_directory
from xpod.common.experts import ExpertDirectory
from xpod.common.view import PodView
from xpod_model.config import ModelConfig
from xpod_proto import subjects
from xpod_runtime.bus import Bus
from xpod_runtime.compute import ComputeThread
from xpod_runtime.nats_bus import NatsBus

NAME = "bench-hop"
DTYPE = "bf16"
WHOLE_SECONDS = 60.0


class Attention:
    """`hop` is for the thread of `compute`."""

    def __init__(self, pod: OwnPod, bus: Bus, config: ModelConfig) -> None:
        from xpod.attention.sorting import quickest_sort  # with it comes torch
        from xpod_model.memory import keep_freed_memory

        keep_freed_memory()
        state = pod.state()
        self._bus, self._pod, self._config = bus, state.pod, config
        self._shards = sum(member.kind == "expert" for member in state.members)
        self.view = PodView(bus, state.pod)
        self.directory = ExpertDirectory(config.experts, config.moe_layers, self.view.trusts, quickest_sort())
        self.compute = ComputeThread()
        memory = shared_directory(state.pod)
        self.frames = memory.is_dir()
        """Whether the members share memory. Where they do not, ours is nobody's, and all goes over NATS."""
        frames = WatchedFrames(memory if self.frames else _private(pod.data))
        self.view.neighbours.introduce(frames)
        self.line = WatchedLine(state.nats_urls, NAME, frames)
        self.hop = Hop(self.line, state.pod, self.directory, DTYPE, self.compute)

    async def meet(self) -> None:
        """Returns once every expert is known to be somewhere. Raises CliError when it takes too long."""
        self.view.listen(self.directory.on_member)
        await self._bus.subscribe(subjects.holdings(self._pod), self.directory.on_holdings)
        await self.view.start()
        try:
            async with asyncio.timeout(WHOLE_SECONDS):
                while not self._whole():
                    await self.directory.changed(self.directory.version, WHOLE_SECONDS)
        except TimeoutError:
            raise CliError(f"not every expert was there after {WHOLE_SECONDS:g} s") from None

    def held(self) -> dict[str, int]:
        """How many experts, over all layers, each shard has."""
        held = self.directory.routing.held
        return {shard: sum(map(len, held[shard].values())) for shard in sorted(held)}

    async def close(self) -> None:
        self.hop.close()
        await self.compute.close()
        self.line.close()

    def _whole(self) -> bool:
        routing = self.directory.routing
        return not routing.missing() and len(routing.shards) == self._shards


@asynccontextmanager
async def attending(pod: OwnPod, config: ModelConfig) -> AsyncIterator[Attention]:
    """Raises CliError, BusError."""
    bus = await NatsBus.connect(pod.state().nats_urls, NAME, wait=WHOLE_SECONDS)
    try:
        attention = Attention(pod, bus, config)
        try:
            await attention.meet()
            yield attention
        finally:
            await attention.close()
    finally:
        await bus.close()


def _private(data: Path) -> Path:
    directory = data / NAME
    directory.mkdir()
    return directory
