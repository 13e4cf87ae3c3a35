"""A pod whose members sit in namespaces of their own, so that all they say crosses a network that can be disturbed.

Knows: how a plan of `xpod up` is moved into namespaces, with three NATS nodes.
Does not know: faults, or streams.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from xpod.cli.chaos.namespaces import Layout, Namespaces
from xpod.cli.compose import default_counts
from xpod.cli.errors import CliError
from xpod.cli.handle import Handle
from xpod.cli.own_pod import OwnPod
from xpod.cli.plan import START_ORDER, LaunchPlan, MemberSpec, PodSettings, make_plan
from xpod.cli.preflight import find_model
from xpod.cli.state import locked
from xpod.cli.terminal import interruptible, wait_ready

NATS_NODES = 3
CLIENTS, ROUTES, HTTP = 4222, 6222, 8000
"""Ports. Each member has an address of its own, so they are never taken."""

OPEN = {"XPOD_INSECURE": "true"}
"""Nobody outside of the machine reaches its namespaces."""


@contextmanager
def network_pod(model: str, dtype: str) -> Iterator[tuple[OwnPod, Namespaces]]:
    """A ready pod with compose.yaml's counts, and its network. Both are gone afterwards."""
    counts = default_counts() | {"nats": NATS_NODES}
    layout = Layout(os.getpid(), tuple(f"{kind}-{i}" for kind in START_ORDER for i in range(counts[kind])))
    with TemporaryDirectory(prefix="xpod-") as directory, interruptible():
        data = Path(directory).resolve()
        settings = PodSettings(
            data, find_model(model), counts, [HTTP] * counts["router"], dtype, variables=OPEN
        )
        with Namespaces(layout) as network, locked(data) as lock:
            plan = moved(make_plan(settings, urls(layout), nats_nodes(layout, data)), layout)
            with Handle(plan, attached=True, lock=lock) as handle:
                wait_ready(handle)
                yield OwnPod(data), network


def urls(layout: Layout) -> list[str]:
    return [f"nats://{layout.address(name)}:{CLIENTS}" for name in nodes(layout)]


def nodes(layout: Layout) -> list[str]:
    """The members that are NATS nodes."""
    return [member for member in layout.members if member.startswith("nats-")]


def nats_nodes(layout: Layout, data: Path) -> list[MemberSpec]:
    """Writes the configuration of the nodes of a cluster over this network; returns their commands."""
    from xpod.cli.nats_nodes import node
    from xpod_runtime.broker import nats_server_path
    from xpod_runtime.broker_config import BrokerConfig, ClusterConfig
    from xpod_runtime.errors import BrokerError

    try:
        binary = str(nats_server_path())
    except BrokerError as error:
        raise CliError(str(error)) from error
    routes = tuple(f"nats://{layout.address(name)}:{ROUTES}" for name in nodes(layout))
    return [
        node(
            BrokerConfig(
                name,
                data / "nats" / name,
                layout.address(name),
                CLIENTS,
                ClusterConfig("xpod", layout.address(name), ROUTES, routes),
                writes_log=False,
            ),
            binary,
        )
        for name in nodes(layout)
    ]


def moved(plan: LaunchPlan, layout: Layout) -> LaunchPlan:
    """The same pod, each member in its namespace: routers listen there.

    Members prefer different NATS nodes, so that what they say crosses the routes between nodes, too.
    """
    routers = [spec.id for spec in plan.members if spec.kind == "router"]
    endpoints = tuple(f"http://{layout.address(name)}:{HTTP}" for name in routers)
    members = []
    for number, spec in enumerate(plan.members):
        turn = number % len(plan.nats_urls)
        preferred = ",".join([*plan.nats_urls[turn:], *plan.nats_urls[:turn]])
        own = (
            {} if spec.kind == "nats" else {"XPOD_NATS_URL": preferred, "XPOD_HOST": layout.address(spec.id)}
        )
        members.append(replace(spec, argv=layout.inside(spec.id, spec.argv), env={**spec.env, **own}))
    return replace(plan, members=tuple(members), endpoints=endpoints)
