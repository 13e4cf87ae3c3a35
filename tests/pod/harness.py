"""A whole pod inside the test process: real services, real NATS connections, real HTTP; only the processes are one.

Tests of processes and signals use `xpod up` instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from xpod.attention.worker import Worker
from xpod.common.service import Service
from xpod.decode.worker import Decode, DecodeConfig
from xpod.expert.shard import Expert, ExpertConfig
from xpod.mempool.node import MemPool, MemPoolConfig
from xpod.prefill.worker import Prefill, PrefillConfig
from xpod.router.api.engine_protocol import Affinity, Output, Session
from xpod.router.router import Router, RouterConfig
from xpod.supervisor.supervisor import Supervisor, SupervisorConfig
from xpod_proto import SamplingSpec
from xpod_runtime.bus import Bus
from xpod_runtime.config import ServiceConfig
from xpod_runtime.fault_plan import Fault, FaultPlan, Rule
from xpod_runtime.local_bus import LocalBus, LocalFabric
from xpod_runtime.nats_bus import NatsBus

KINDS: dict[str, tuple[type[Service], type[ServiceConfig]]] = {
    "supervisor": (Supervisor, SupervisorConfig),
    "mempool": (MemPool, MemPoolConfig),
    "expert": (Expert, ExpertConfig),
    "prefill": (Prefill, PrefillConfig),
    "decode": (Decode, DecodeConfig),
    "router": (Router, RouterConfig),
}
LIMIT = 30.0
Where = str | LocalFabric


async def connect(where: Where, name: str) -> Bus:
    """A bus of the member's own."""
    if isinstance(where, LocalFabric):
        return LocalBus(where, name)
    return await NatsBus.connect([where], name, wait=10)


@dataclass(frozen=True)
class Shape:
    """How many of each."""

    supervisor: int = 1
    mempool: int = 1
    expert: int = 2
    prefill: int = 1
    decode: int = 1
    router: int = 1


class Pod:
    """The running services by member id."""

    def __init__(self) -> None:
        self.members: dict[str, Service] = {}
        self.buses: dict[str, list[Bus]] = {}

    def of(self, kind: str) -> list[Service]:
        return [member for name, member in sorted(self.members.items()) if member.member_kind == kind]

    @property
    def router(self) -> Router:
        router = self.of("router")[0]
        assert isinstance(router, Router)
        return router

    def url(self, index: int = 0) -> str:
        return str(self.of("router")[index].detail()["url"])

    async def start(self, kind: str, index: int, where: Where, model: Path, **options: object) -> Service:
        """Start one member as its process would; `options` it does not know are left out."""
        cls, config_cls = KINDS[kind]
        known = {name: value for name, value in options.items() if name in config_cls.model_fields}
        if isinstance(data := options.get("data"), Path):
            known["data"] = data / f"{kind}-{index}"  # as the launcher does
        config = config_cls.model_validate(
            {
                "id": f"{kind}-{index}",
                "pod": "test",
                "nats_url": str(where),
                "model": str(model),
                "heartbeat": 0.1,
                **({"probe": False} if kind == "prefill" else {}),
                **known,
            }
        )
        buses = [await connect(where, f"{config.id}{tail}") for tail in ("", ".control")]
        member = cls(config, *buses)
        if isinstance(
            member, Prefill
        ):  # what is quicker differs from run to run with models as small as these
            member.worth_loading = lambda sequence, refs: True  # type: ignore[method-assign]
        self.members[config.id], self.buses[config.id] = member, buses
        await member.start()
        return member

    async def crash(self, name: str) -> None:
        """The member is gone without a word: its connections close, nothing is drained."""
        for bus in self.buses.pop(name):
            await bus.close()
        member = self.members.pop(name)
        member.tree.stop()
        await member.teardown()

    async def stop(self) -> None:
        for kind in reversed(KINDS):
            for member in self.of(kind):
                await member.stop("stopped")
        for buses in self.buses.values():
            for bus in buses:
                await bus.close()

    async def empty_mempool(self) -> None:
        """No block of former requests is there any more."""
        for node in self.of("mempool"):
            assert isinstance(node, MemPool)
            await node.clear()

    async def ready(self) -> None:
        """Returns once every router says that the pod can serve."""
        async with asyncio.timeout(LIMIT):
            for router in self.of("router"):
                assert isinstance(router, Router)
                while not router.engine.ready()[0]:
                    await router.view.changed(0.05)

    async def generate(self, prompt: Sequence[int], sampling: SamplingSpec, tenant: str = "") -> list[Output]:
        """One session through the first router, without HTTP."""
        session = await self.router.engine.open(list(prompt), sampling, affinity=Affinity(tenant=tenant))
        async with asyncio.timeout(LIMIT):
            return [output async for output in session]


def cut(member: str, way: str) -> FaultPlan:
    """Rules by which a member hears nobody (deaf), is heard by nobody (mute), or both."""
    names = (member, f"{member}.control")
    deaf = [Rule(Fault.DROP, target=name) for name in names]
    mute = [Rule(Fault.DROP, source=name) for name in names]
    return FaultPlan({"deaf": deaf, "mute": mute, "cut off": deaf + mute}[way])


@asynccontextmanager
async def running_pod(
    where: Where, model: Path, shape: Shape | None = None, **options: object
) -> AsyncIterator[Pod]:
    """A ready pod on the NATS server at a URL, or on an in-memory fabric."""
    shape = shape or Shape()
    pod = Pod()
    options = {"port": 0, "kv_bytes": 32 << 20, **options}
    data = TemporaryDirectory(prefix="xpod-data-")
    options = {"data": Path(data.name), **options}
    try:
        starts = [(kind, index) for kind in KINDS for index in range(getattr(shape, kind))]
        await asyncio.gather(*(pod.start(kind, index, where, model, **options) for kind, index in starts))
        await pod.ready()
        yield pod
    finally:
        await pod.stop()
        data.cleanup()


def greedy(max_tokens: int, **more: object) -> SamplingSpec:
    """Temperature 0."""
    return SamplingSpec(seed=0, max_tokens=max_tokens, temperature=0.0, **more)  # type: ignore[arg-type]


async def first(session: Session, count: int) -> list[Output]:
    """The first `count` outputs; the session goes on."""
    outputs: list[Output] = []
    async for output in session:
        outputs.append(output)
        if len(outputs) == count:
            break
    return outputs


def worker(pod: Pod, name: str) -> Worker:
    member = pod.members[name]
    assert isinstance(member, Worker)
    return member


async def until_empty(one: Worker, seconds: float) -> None:
    """Returns once no sequence and no block is in use; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while one.engine.sequences or one.engine.batch.reserved_blocks:
            one.see_if_idle()
            await one.idle.wait()
