"""A supervisor: one leads, by a lease in the pod's store; the others stand by with the same view.

The leader's whole state is its view of the pod and the shards' holdings, so a successor needs nothing from it:
a placement is a pure function of who is there and what they hold, or were to hold, under an epoch above any epoch
heard. It keeps its wish in the store, where shards find it that start while no supervisor is there.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field

from xpod.common.service import Service, now
from xpod.common.shelf import PodShelf
from xpod_model.checkpoint import Checkpoint
from xpod_policy.holdings import to_bitmap, unpacked
from xpod_policy.lease import RENEW_SECONDS, Lease
from xpod_policy.membership import Change
from xpod_policy.placement import Assignment, place
from xpod_policy.planner import Planner
from xpod_proto import Placement, subjects
from xpod_proto.messages import Value
from xpod_proto.rights import WATCHES
from xpod_runtime.bus import Bus
from xpod_runtime.config import ServiceConfig
from xpod_runtime.errors import StoreError
from xpod_runtime.handlers import handles

TICK = 0.1
SPARED_BYTES = 512 << 20
"""Experts of so many bytes in all are held twice without being asked."""


class SupervisorConfig(ServiceConfig):
    kind = "supervisor"

    copies: Annotated[
        int,
        Field(ge=0, description="shards that hold each expert, 0: two where memory hardly notices, else one"),
    ] = 0
    publish: Annotated[float, Field(gt=0, description="seconds between repeats of the placement")] = 2.0


class Supervisor(Service):
    """Watches, places, publishes."""

    kind = "supervisor"
    watches = WATCHES["supervisor"]
    config: SupervisorConfig

    def __init__(self, config: SupervisorConfig, data: Bus, control: Bus) -> None:
        super().__init__(config, data, control)
        self._planner = Planner()
        self._model = ""
        self._epoch = 0
        self._current: Placement | None = None
        self._wished: dict[str, dict[int, frozenset[int]]] = {}
        self._lease = Lease(self.member)
        self._peers_changed = asyncio.Event()

    async def setup(self) -> None:
        checkpoint = Checkpoint.open(Path(self.config.model))
        self._model = checkpoint.identity
        self._moe_layers = checkpoint.config.moe_layers
        self._total = checkpoint.config.experts
        self._copies = self.config.copies or (2 if _expert_bytes(checkpoint) <= SPARED_BYTES else 1)
        self._directory = await self.follow_experts(self._total, self._moe_layers)
        self._shelf = PodShelf(self.data, self.pod, self._model)
        await self.listen(subjects.placement(self.pod), control=True)
        self.view.listen(self._on_member)
        await self.open_view(model=self._model)
        self.permanent("lease", self._hold_lease)
        self.permanent("place", self._place_when_due)
        self.permanent("publish", self._publish_often)

    def detail(self) -> dict[str, Value]:
        return {"model": self._model}

    def load(self) -> dict[str, Value]:
        return {"leader": self._leads(), "placement_epoch": self._epoch}

    def _peers(self) -> set[str]:
        return {member.name for member in self.view.usable("supervisor")}

    def _leads(self) -> bool:
        return self._lease.leads(self._peers(), now())

    async def _on_member(self, change: Change) -> None:
        if change.member.kind == "supervisor":
            self._peers_changed.set()

    async def _hold_lease(self) -> None:
        """Read it and, where it is ours or free, claim it: now and then, and when a supervisor comes or goes."""
        while True:
            try:
                self._lease.read(*await self._shelf.lease(), now())
                revision = self._lease.to_claim(self._peers(), now())
                if revision is not None:
                    await self._claim(revision)
            except StoreError as error:
                self.log.debug("no lease", error=str(error))
            self._peers_changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(RENEW_SECONDS):
                    await self._peers_changed.wait()

    async def _claim(self, revision: int) -> None:
        new = self._lease.holder != self.member
        claimed = await self._shelf.claim(self.member, revision)
        if claimed is None:
            return
        self._lease.read(self.member, claimed, now())
        if new:
            self.log.info("leads")
            kept = await self._shelf.placement()
            if kept is not None:
                self._heed(kept)

    @handles(Placement)
    async def on_placement(self, message: Placement) -> None:
        """Another's, and not older than ours, would last: whoever leads places anew."""
        if message.author != self.member and message.epoch >= self._epoch:
            self._planner.again(now())
            if self._current is not None and message.epoch > self._current.epoch:
                self._lease.decided(message.author, now())
        self._heed(message)

    def _heed(self, message: Placement) -> None:
        if message.epoch > self._epoch:
            self._epoch = message.epoch
            self._wished = {shard: unpacked(layers) for shard, layers in message.shards.items()}

    async def _place_when_due(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            if not self._leads():
                continue
            shards = frozenset(member.name for member in self.view.usable("expert"))
            self._planner.observe(shards, now())
            if self._planner.waits and self._directory.routing.missing(shards):
                self._planner.again(now())
            if self._current is not None and self._newest() > self._current.epoch:
                self._planner.again(now())  # shards follow a wish that we never heard of
            due = self._planner.take(now())
            if due:  # where nobody is there, it may be us who are out of touch
                self._current = self._place(due)
                await self._publish()
                await self._keep(self._current)

    def _place(self, shards: frozenset[str]) -> Placement:
        held = {
            shard: layers for shard, layers in self._directory.routing.held.items() if any(layers.values())
        }
        before = {**self._wished, **held}
        assignment = place(sorted(shards), self._moe_layers, self._total, before, self._copies)
        self._epoch = self._newest() + 1
        self.log.info("placement", epoch=self._epoch, shards=sorted(shards), copies=self._copies)
        return Placement(self._epoch, self.member, _bitmaps(assignment, self._total))

    def _newest(self) -> int:
        """The highest epoch that anybody knows."""
        known = (member.load.get("placement_epoch", 0) for member in self.view.table.of_kind("expert"))
        return max(self._epoch, *(epoch for epoch in known if isinstance(epoch, int)), 0)

    async def _keep(self, placement: Placement) -> None:
        try:
            await self._shelf.keep(placement)
        except StoreError as error:
            self.log.warning("placement not kept", epoch=placement.epoch, error=str(error))

    async def _publish(self) -> None:
        # One that waits for a reconnect is stale, and shards would take it for news.
        if not self.control.is_connected:
            return
        if self._current is not None and self._current.epoch == self._epoch:
            await self.control.publish(subjects.placement(self.pod), self._current)

    async def _publish_often(self) -> None:
        """A shard that missed the placement hears it again."""
        while True:
            await asyncio.sleep(self.config.publish)
            if self._leads():
                await self._publish()


def _expert_bytes(checkpoint: Checkpoint) -> int:
    """What all experts take in bf16."""
    config = checkpoint.config
    return 2 * 3 * len(config.moe_layers) * config.experts * config.hidden * config.expert_width


def _bitmaps(assignment: Assignment, total: int) -> dict[str, dict[int, bytes]]:
    return {
        shard: {layer: to_bitmap(experts, total) for layer, experts in layers.items()}
        for shard, layers in assignment.items()
    }
