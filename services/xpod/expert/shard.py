"""An expert shard: it loads what the placement wishes, says what it holds, and answers expert calls.

An expert that the placement takes away is dropped only when a shard that should hold it says that it does and is not
about to drop it, too: so neither a move, nor a placement that knows of no shard, nor two shards that follow two
placements leave an expert without a holder.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from xpod.common.service import Service
from xpod.common.shelf import PodShelf
from xpod.expert.serving import CallServer
from xpod_model.checkpoint import Checkpoint
from xpod_model.errors import ModelError
from xpod_model.experts import ExpertSet
from xpod_model.fingerprint import numerics_fingerprint
from xpod_model.memory import bound_kernels, give_back_memory, keep_freed_memory, long_lived
from xpod_policy.holdings import from_bitmap, to_bitmap
from xpod_proto import Holdings, Message, Placement, RollCall, WhatStays, subjects
from xpod_proto.messages import Value
from xpod_proto.rights import WATCHES
from xpod_runtime.bus import Bus
from xpod_runtime.compute import ComputeThread
from xpod_runtime.config import ServiceConfig
from xpod_runtime.errors import StoreError, XpodError
from xpod_runtime.handlers import handles

ANSWER_SECONDS, AGAIN_SECONDS, LOOK_SECONDS = 2.0, 0.2, 0.2


class ExpertConfig(ServiceConfig):
    kind = "expert"

    announce: Annotated[float, Field(gt=0, description="seconds between announcements of holdings")] = 2.0


class Expert(Service):
    """Holds experts, serves calls."""

    kind = "expert"
    watches = WATCHES["expert"]
    config: ExpertConfig

    def __init__(self, config: ExpertConfig, data: Bus, control: Bus) -> None:
        super().__init__(config, data, control)
        self.compute = ComputeThread()
        self._model = ""
        self._moe_layers: tuple[int, ...] = ()
        self._wish: Placement | None = None
        self._wished = asyncio.Event()
        self._version = 0
        self._leaving: set[tuple[int, int]] = set()
        """Experts that we ask others to keep: nobody may rely on us for these."""

    async def setup(self) -> None:
        self._checkpoint = Checkpoint.open(Path(self.config.model))
        self._checkpoint.validate()
        self._model = self._checkpoint.identity
        self._moe_layers = self._checkpoint.config.moe_layers
        self._experts = await self.compute.run(self._make_set)
        self.line = self.open_line()
        self._server = CallServer(
            self.line, self._experts, self._checkpoint.config, self.compute, self.tracer
        )
        self.registry.register(self._server.heat)
        self.compute.nudge = self.line.interrupt
        self.fingerprint = await self.compute.run(numerics_fingerprint, self._server.dtype)
        self._directory = await self.follow_experts(self._checkpoint.config.experts, self._moe_layers)
        self._directory.listen(self._wished.set)
        await self.listen(subjects.placement(self.pod), control=True)
        await self.open_view(model=self._model, fingerprint=self.fingerprint)
        self._remembering = asyncio.create_task(self._remember_wish())
        self.permanent("serve", self._serve)
        self.permanent("fulfil", self._fulfil)
        self.permanent("announce", self._announce_often)

    def _make_set(self) -> ExpertSet:
        bound_kernels()
        keep_freed_memory()
        torch.set_num_threads(self.config.threads)
        return ExpertSet(self._checkpoint, self.config.dtype, self.config.device)

    async def teardown(self) -> None:
        if hasattr(self, "_remembering"):
            self._remembering.cancel()
        if hasattr(self, "_server"):
            self._server.close()
        await self.compute.close()
        if hasattr(self, "line"):
            self.line.close()

    def detail(self) -> dict[str, Value]:
        return {"model": self._model, "dtype": self.config.dtype, "device": self.config.device}

    def load(self) -> dict[str, Value]:
        if not hasattr(self, "_server"):
            return {"held": 0}
        return {
            "held": len(self._experts.held),
            "calls_waiting": self._server.waiting,
            "calls": self._server.served,
            "placement_epoch": self._wish.epoch if self._wish else 0,
            "busy_seconds": round(self.compute.busy_seconds, 3),
        }

    async def drain(self) -> None:
        """Serve on until others hold all of it, while there are others who could come to hold it."""
        while (others := self._others()) and self._experts.held.intersection(
            self._directory.routing.missing(others)
        ):
            await self._directory.changed(self._directory.version, LOOK_SECONDS)

    def _others(self) -> set[str]:
        return {shard.name for shard in self.view.usable(self.kind)} - {self.member}

    # calls

    async def _serve(self) -> None:
        await self.compute.run(self._server.serve, subjects.calls(self.pod, self.member))

    # placement and holdings

    @handles(Placement)
    async def on_placement(self, message: Placement) -> None:
        if self._wish is None or message.epoch > self._wish.epoch:
            self._wish = message
            self._wished.set()

    async def _remember_wish(self) -> None:
        """What was wished before we started: nobody may be there to say it again."""
        try:
            kept = await PodShelf(self.data, self.pod, self._model).placement()
        except StoreError as error:
            self.log.info("no placement is kept", error=str(error))
            return
        if kept is not None:
            await self.on_placement(kept)

    @handles(RollCall)
    async def on_roll_call(self, message: RollCall) -> None:
        if self.state == "up":
            await self._announce_holdings()

    async def _fulfil(self) -> None:
        """Bring the holdings to what the placement wishes, over and over."""
        while True:
            await self._wished.wait()
            self._wished.clear()
            if self._wish is None:
                continue
            wish = self._wish
            ours = wish.shards.get(self.member, {}).items()
            wanted = {(layer, expert) for layer, bitmap in ours for expert in from_bitmap(bitmap)}
            if await self._load(wanted - self._experts.held):
                await self._announce_holdings()
            await self._hand_over(self._spare(self._experts.held - wanted, wish))

    async def _load(self, wanted: set[tuple[int, int]]) -> int:
        """Load one by one, so that calls get their turn in between."""
        for layer, expert in sorted(wanted):
            try:
                await self.compute.run(self._load_one, layer, expert)
            except ModelError:
                self.log.exception("expert cannot be loaded", layer=layer, expert=expert)
        if wanted:
            await self.compute.run(self._settle)
        return len(wanted)

    def _load_one(self, layer: int, expert: int) -> None:
        with long_lived():
            self._experts.load(layer, expert)

    def _settle(self) -> None:
        """After loading: keep the packed weights, and nothing else."""
        self._checkpoint.release()
        give_back_memory()

    def _spare(
        self, unwanted: set[tuple[int, int]], wish: Placement
    ) -> dict[tuple[int, int], frozenset[str]]:
        """Those of them that all hold who should, with these keepers: until then there would be a copy too few."""
        wished = {
            shard: {layer: frozenset(from_bitmap(bitmap)) for layer, bitmap in layers.items()}
            for shard, layers in wish.shards.items()
        }
        spare = {}
        for layer, expert in unwanted:
            keepers = frozenset(shard for shard, held in wished.items() if expert in held.get(layer, ()))
            if keepers and keepers.issubset(self._directory.routing.holders(layer, expert)):
                spare[layer, expert] = keepers
        return spare

    async def _hand_over(self, spare: dict[tuple[int, int], frozenset[str]]) -> None:
        """Drop what its keepers hold still. Two that ask one another both keep it, and ask again.

        On the computing thread, between two calls: a call that is under way reads the weights' memory.
        """
        self._leaving = leaving = set(spare)
        shards = sorted(frozenset().union(*spare.values()))
        try:
            answers = await asyncio.gather(*map(self._staying_at, shards))
            staying = dict(zip(shards, answers, strict=True))
            kept = {
                pair for pair, keepers in spare.items() if all(pair in staying[shard] for shard in keepers)
            }
            if kept:
                await self.compute.run(self._forget, kept)
        finally:
            self._leaving = set()
        if kept:
            await self._announce_holdings()
        if kept < leaving:
            asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._wished.set)

    async def _staying_at(self, shard: str) -> set[tuple[int, int]]:
        """What the shard holds and is not about to drop; nothing where it does not answer."""
        question = WhatStays(self.member)
        try:
            answer = await self.view.request(self.data, self.kind, shard, question, timeout=ANSWER_SECONDS)
        except XpodError as error:
            self.log.warning("experts stay: no answer", shard=shard, error=str(error))
            return set()
        assert isinstance(answer, Holdings), answer
        return {(layer, expert) for layer, bitmap in answer.layers.items() for expert in from_bitmap(bitmap)}

    @handles(WhatStays)
    async def on_what_stays(self, _: WhatStays) -> Message:
        """Nothing that others do not know of: who asks will say that it dropped these."""
        announced = await self._announce_holdings()
        await self.control.flush()
        return self._holdings((self._experts.held & announced) - self._leaving)

    def _forget(self, pairs: set[tuple[int, int]]) -> None:
        for pair in pairs:
            self._experts.drop(*pair)

    def _holdings(self, pairs: set[tuple[int, int]]) -> Holdings:
        total = self._checkpoint.config.experts
        held: dict[int, list[int]] = {layer: [] for layer in self._moe_layers}
        for layer, expert in pairs:
            held[layer].append(expert)
        layers = {layer: to_bitmap(experts, total) for layer, experts in held.items()}
        return Holdings(self.member, self.incarnation, self._version, layers)

    async def _announce_holdings(self) -> set[tuple[int, int]]:
        self._version += 1
        held = self._experts.held
        await self.control.publish(subjects.holdings(self.pod), self._holdings(held))
        return held

    async def _announce_often(self) -> None:
        while True:
            await self._announce_holdings()
            await asyncio.sleep(self.config.announce)
