"""From what a user asked for to a launcher that runs it.

Knows: the checks before a start, and their order (cheap ones first).
Does not know: the terminal: whoever starts a pod is told its events.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from xpod.cli.compose import default_counts
from xpod.cli.errors import BAD_USAGE, CliError
from xpod.cli.handle import Handle
from xpod.cli.http_face import HttpFace
from xpod.cli.options import DEFAULT_DATA, DEFAULT_MODEL
from xpod.cli.plan import LaunchPlan, PodSettings, make_plan, pod_name
from xpod.cli.preflight import DEMO, check_port_range, claim_ports, find_model, reach_nats
from xpod.cli.reuse import sizes_in
from xpod.cli.shared_memory import can_share
from xpod.cli.state import locked, read_state

if TYPE_CHECKING:
    from xpod.cli.credentials.keyring import Keyring

LOCAL_NATS = 1
"""JetStream's quorum is there for machines that fail; on one machine a single node loses nothing."""
READY_SECONDS = 180.0
FLAGS = {"router": "routers", "expert": "experts", "supervisor": "supervisors"}
"""Options that are not called as the kind is."""
MACHINE = r"[A-Za-z0-9_]{1,32}"


@dataclass(frozen=True, slots=True)
class PodRequest:
    """A pod as asked for; counts that are not given come from compose.yaml, or are 0 in a part of one."""

    data: Path = DEFAULT_DATA
    model: str = DEFAULT_MODEL
    dtype: str = "auto"
    device: str = "cpu"
    served_model_name: str = ""
    host: str = "127.0.0.1"
    public_host: str = ""
    port: int = 8000
    machine: str = ""
    """Where the rest of the pod is elsewhere: the name of this machine."""
    pod: str = ""
    counts: Mapping[str, int | None] = field(default_factory=dict)
    nats: int | None = None
    nats_url: str = ""
    frames: bool = True
    secure: bool = False
    """Whether its own NATS nodes let in its members alone, over TLS."""
    credentials: Path | None = None
    """Those for `nats_url`, if it asks for them."""
    face: HttpFace = field(default_factory=HttpFace)
    variables: Mapping[str, str] = field(default_factory=dict)
    """Settings for all services, by the names of their environment variables."""
    ready_seconds: float = READY_SECONDS


@contextmanager
def started(request: PodRequest, *, attached: bool) -> Iterator[Handle]:
    """A launcher that has its orders. On the way out it is stopped, unless it was released."""
    checked = _check(request)
    data = request.data.expanduser().resolve()
    with locked(data) as lock:
        _refuse_leftovers(data)
        plan = _plan_of(request, checked, data)
        with Handle(plan, attached=attached, lock=lock) as handle:
            yield handle


@dataclass(frozen=True, slots=True)
class _Checked:
    """What is known to be good before the data directory is touched; no URLs: NATS nodes of our own."""

    counts: dict[str, int]
    model: Path
    nats_urls: list[str]


def _check(request: PodRequest) -> _Checked:
    counts = _counts(request)
    check_port_range(request.port, counts["router"])
    if counts["router"]:
        _face_of(request).check(request.host, os.environ)
    model = find_model(request.model)
    return _Checked(counts, model, reach_nats(request.nats_url) if request.nats_url else [])


def check_part(machine: str, nats_url: str, *, named: bool) -> None:
    """Raises CliError where the options cannot be those of a part of a pod."""
    if not re.fullmatch(MACHINE, machine):
        raise CliError(f"--machine: {machine!r} is not a name (letters, digits and _, at most 32)", BAD_USAGE)
    if not nats_url:
        raise CliError("--machine: where do the machines meet? --nats-url", BAD_USAGE)
    if not named:
        raise CliError("--machine: of which pod? --pod, or --credentials", BAD_USAGE)


def _counts(request: PodRequest) -> dict[str, int]:
    counts = default_counts()
    del counts["nats"]
    if request.machine:
        counts = dict.fromkeys(counts, 0)
    counts |= {kind: count for kind, count in request.counts.items() if count is not None}
    none = [kind for kind, count in counts.items() if not count]
    if none and not request.machine:
        raise CliError(
            f"'--{FLAGS.get(none[0], none[0])}': only a part of a pod has none (--machine)", BAD_USAGE
        )
    if len(none) == len(counts):
        raise CliError("--machine: which members? For instance --experts 2", BAD_USAGE)
    return counts


def _plan_of(request: PodRequest, checked: _Checked, data: Path) -> LaunchPlan:
    """The plan, with ports that are free now."""
    keyring = _keyring_of(request, data)
    settings = PodSettings(
        data=data,
        model=checked.model,
        counts=checked.counts,
        ports=claim_ports(request.host, request.port, checked.counts["router"]),
        dtype=request.dtype,
        device=request.device,
        served_model_name=request.served_model_name or (DEMO if request.model == DEMO else ""),
        host=request.host,
        public_host=request.public_host,
        machine=request.machine,
        pod=keyring.pod if keyring else request.pod,
        ready_seconds=request.ready_seconds,
        share_memory=request.frames and can_share(),
        credentials=keyring.root if keyring else None,
        https=request.face.https,
        variables={**sizes_in(os.environ), **_face_of(request).variables(), **request.variables},
    )
    if checked.nats_urls:
        return make_plan(settings, checked.nats_urls, [])
    from xpod.cli.nats_nodes import prepare_nodes

    urls, nodes = prepare_nodes(request.nats or LOCAL_NATS, data, keyring)
    return make_plan(settings, urls, nodes)


def _face_of(request: PodRequest) -> HttpFace:
    return request.face.found(request.data.expanduser().resolve())


def _keyring_of(request: PodRequest, data: Path) -> Keyring | None:
    """The credentials that its members show; None: its NATS nodes want none."""
    if not (request.secure or request.credentials):
        return None
    from xpod.cli.credentials.keyring import Keyring, found

    if request.credentials is None:
        return Keyring(data / "credentials", pod_name(data, request.pod))
    keyring = found(request.credentials.expanduser().resolve())
    if request.pod not in {"", keyring.pod}:
        raise CliError(
            f"{keyring.root} has the credentials of {keyring.pod}, not of {request.pod}", BAD_USAGE
        )
    return keyring


def _refuse_leftovers(data: Path) -> None:
    state = read_state(data)
    if state is not None and state.living():
        raise CliError(f"members of a pod whose launcher died still run in {data}; xpod down stops them")
