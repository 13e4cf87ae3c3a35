"""What a network can do to a member, and how it is done to one of a drill.

Knows: which packets each fault hits. Does not know: when faults begin and end, or what streams make of them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

from xpod.cli.chaos.namespaces import Layout, Namespaces
from xpod.cli.chaos.network_pod import CLIENTS, nodes
from xpod.cli.errors import CliError

Fault = Literal["delay", "loss", "deaf", "mute", "cut", "routes"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
DELAY_SECONDS, JITTER_SECONDS = 0.020, 0.010
LOSS_PERCENT = 5
LASTING: tuple[Fault, ...] = ("delay", "loss")
"""These stay as long as the streams do; the others cut a member off for some seconds."""


@dataclass(frozen=True, slots=True)
class Case:
    """One fault for one kind of member, between it and all NATS nodes; of a NATS node: all services.

    delay: what it sends takes longer. loss: some packets of both ways. deaf: nothing reaches it. mute: nothing that it
    sends arrives. cut: both. routes: a NATS node and the other nodes do not reach one another.
    """

    kind: str
    fault: Fault

    @property
    def possible(self) -> bool:
        """Services have no routes, and a NATS node is not slowed down: its services are, one by one."""
        return self.fault not in (("delay",) if self.kind == "nats" else ("routes",))


@dataclass(slots=True)
class Count:
    """Packets that a fault has hit, once it is over."""

    packets: int = 0


@contextmanager
def disturbed(network: Namespaces, case: Case, member: str) -> Iterator[Count]:
    """The fault, while the context lasts."""
    count = Count()
    if case.fault == "delay":
        with _slow(network.layout, member) as link:
            yield count
            said = link.communicate()[0].strip()
        count.packets = int(said or 0)
        return
    network.drop(rules(case, network.layout, member))
    try:
        yield count
    finally:
        count.packets = network.heal()


def rules(case: Case, layout: Layout, member: str) -> list[str]:
    """For nft on the bridge: which packets are dropped."""
    sent, received = f'iifname "{member}"', f'oifname "{member}"'
    if case.fault != "routes" and case.kind == "nats":
        sent, received = f"{sent} tcp sport {CLIENTS}", f"{received} tcp dport {CLIENTS}"
    else:
        others = ", ".join(layout.address(name) for name in nodes(layout) if name != member)
        sent, received = f"{sent} ip daddr {{ {others} }}", f"{received} ip saddr {{ {others} }}"
    match case.fault:
        case "deaf":
            return [received]
        case "mute":
            return [sent]
        case "loss":
            return [f"{way} numgen random mod 100 < {LOSS_PERCENT}" for way in (sent, received)]
        case _:
            return [sent, received]


@contextmanager
def _slow(layout: Layout, member: str) -> Iterator[subprocess.Popen[str]]:
    addresses = [layout.address(name) for name in nodes(layout)]
    options = [str(DELAY_SECONDS), str(JITTER_SECONDS), member, *addresses]
    link = subprocess.Popen(
        layout.inside(member, [sys.executable, "-m", "xpod.cli.chaos.link", *options]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert link.stdout is not None
        if link.stdout.readline().strip() != "ready":
            raise CliError(f"the slow link cannot be made: {link.communicate()[1].strip()[-200:]}")
        yield link
    finally:
        link.kill()
        link.communicate()
