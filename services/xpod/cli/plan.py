"""A pod as data: every member with the command that runs it.

Knows: how the settings of a pod become processes, their arguments and their environment.
Does not know: how they are started or kept alive. Nothing here touches the machine.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xpod.cli.process import LAUNCH_VARIABLE
from xpod.cli.shared_memory import shared_directory

START_ORDER = ("nats", "mempool", "supervisor", "expert", "prefill", "decode", "router")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# options of the command line itself, which would mean nothing, or something else, to a member
_NOT_FOR_MEMBERS = frozenset(
    """
    XPOD_NATS XPOD_ROUTERS XPOD_PREFILL XPOD_DECODE XPOD_EXPERTS XPOD_MEMPOOL XPOD_SUPERVISORS XPOD_PORT
    XPOD_DETACH XPOD_TIMEOUT XPOD_JSON XPOD_URL XPOD_MAX_TOKENS XPOD_TEMPERATURE XPOD_TOP_P XPOD_SEED XPOD_STOP
    XPOD_LOGPROBS XPOD_SIGNAL XPOD_SYSTEM XPOD_NO_FRAMES XPOD_KINDS XPOD_SIGNALS XPOD_PHASES XPOD_TRIALS XPOD_STREAMS
    XPOD_RESTART XPOD_COMPOSE XPOD_MINUTES XPOD_EVERY XPOD_INTERVAL
    XPOD_CLIENT_KEY XPOD_CA XPOD_REQUESTS_PER_MINUTE XPOD_TOKENS_PER_MINUTE XPOD_CONCURRENT
    XPOD_SECURE XPOD_NATS_TLS XPOD_MACHINE XPOD_PUBLIC_HOST
    XPOD_FOLLOW XPOD_LINES XPOD_LEVEL XPOD_GREP XPOD_RAW XPOD_ALL
    XPOD_TRACED XPOD_SPANS XPOD_LAST
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class MemberSpec:
    """One member: what runs it, and what its environment holds beyond the launcher's own."""

    id: str
    kind: str
    argv: tuple[str, ...]
    env: dict[str, str]


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """All that a launcher needs.

    `part`: other machines run the rest of the pod.
    `ready_seconds` is how long the pod may take to become ready, `frames` the directory in memory that its members
    share, if any: the launcher makes it, and removes it.
    """

    pod: str
    model: str
    data: str
    endpoints: tuple[str, ...]
    nats_urls: tuple[str, ...]
    members: tuple[MemberSpec, ...]
    ready_seconds: float = 180.0
    frames: str = ""
    part: bool = False


@dataclass(frozen=True, slots=True)
class PodSettings:
    """What a user can choose. `counts` holds the members of each kind that xpod itself runs, but for NATS.

    With `machine`, these are a part of a pod, and their names tell where they are.
    """

    data: Path
    model: Path
    counts: Mapping[str, int]
    ports: Sequence[int]
    dtype: str = "auto"
    device: str = "cpu"
    served_model_name: str = ""
    host: str = "127.0.0.1"
    public_host: str = ""
    machine: str = ""
    pod: str = ""
    ready_seconds: float = 180.0
    share_memory: bool = False
    https: bool = False
    credentials: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The pod's name on the bus."""
        return pod_name(self.data, self.pod)

    @property
    def frames(self) -> str:
        """The directory in memory that the members share; empty: none."""
        own = f"{self.name}-{self.machine}" if self.machine else self.name
        return str(shared_directory(own)) if self.share_memory else ""


def pod_name(data: Path, given: str = "") -> str:
    """The name that was given, or else one of its own for every data directory: so pods can share a cluster."""
    return given or "pod-" + hashlib.sha256(str(data).encode()).hexdigest()[:8]


def make_plan(
    settings: PodSettings, nats_urls: Sequence[str], nats_nodes: Sequence[MemberSpec]
) -> LaunchPlan:
    """The plan of a pod that meets at `nats_urls`; `nats_nodes` are the nodes that it runs itself."""
    members = list(nats_nodes)
    for kind in START_ORDER[1:]:
        members += [service(settings, kind, index, nats_urls) for index in range(settings.counts[kind])]
    return LaunchPlan(
        pod=settings.name,
        model=str(settings.model),
        data=str(settings.data),
        endpoints=tuple(endpoint(settings, port) for port in settings.ports),
        nats_urls=tuple(nats_urls),
        members=tuple(members),
        ready_seconds=settings.ready_seconds,
        frames=settings.frames,
        part=bool(settings.machine),
    )


def endpoint(settings: PodSettings, port: int) -> str:
    """How clients reach the router on that port."""
    host = settings.public_host or settings.host
    scheme = "https" if settings.https else "http"
    return f"{scheme}://{'127.0.0.1' if host in {'0.0.0.0', '::', ''} else host}:{port}"


def service(settings: PodSettings, kind: str, index: int, nats_urls: Sequence[str]) -> MemberSpec:
    """Member `index` of a kind. Its id is an argument, so that `ps` shows it; the rest is environment."""
    member = f"{kind}-{settings.machine}_{index}" if settings.machine else f"{kind}-{index}"
    env = {
        "XPOD_POD": settings.name,
        "XPOD_ID": member,
        "XPOD_NATS_URL": ",".join(nats_urls),
        "XPOD_MODEL": str(settings.model),
        "XPOD_DTYPE": settings.dtype,
        "XPOD_DEVICE": settings.device,
        "XPOD_HOST": settings.host,
        "XPOD_DATA": str(settings.data / "members" / member),
        "XPOD_FRAMES": settings.frames,
        "XPOD_CREDENTIALS": str(settings.credentials / kind) if settings.credentials else "",
        **settings.variables,
    }
    if kind == "router":
        env["XPOD_PORT"] = str(settings.ports[index])
        env["XPOD_SERVED_MODEL_NAME"] = settings.served_model_name
        if settings.public_host:
            env["XPOD_ADVERTISE"] = endpoint(settings, settings.ports[index])
    return MemberSpec(member, kind, (sys.executable, "-m", f"xpod.{kind}", "--id", member), env)


def environment(spec: MemberSpec, data: str, outer: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a member: the user's, one thread for each library, and the member's own."""
    outer = os.environ if outer is None else outer
    inherited = {name: value for name, value in outer.items() if name not in _NOT_FOR_MEMBERS}
    fixed = {
        **dict.fromkeys(_THREADS, "1"),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        LAUNCH_VARIABLE: data,
    }
    return {**inherited, **fixed, **spec.env}
