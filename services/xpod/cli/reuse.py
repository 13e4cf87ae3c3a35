"""What a pod does about what prompts have in common: who gets a request, what is kept, and in how much room.

Knows: the names of both ladders, the defaults, and the variables that tell the services.
Does not know: how a router chooses, or what a worker keeps.
Source: MemServe (2406.17565): PD-Basic, PD-Caching-1, 2 and 3; prompt tree against session id and least load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from xpod.cli.sizes import size

Routing = Literal["prompt-tree", "round-robin", "session", "least-load"]
Caching = Literal["basic", "prefill", "decode", "full"]
ROUTINGS: tuple[Routing, ...] = get_args(Routing)
CACHINGS: tuple[Caching, ...] = get_args(Caching)
DEFAULT_ROUTING: Routing = "prompt-tree"
DEFAULT_CACHING: Caching = "full"
DEFAULT_MEMPOOL, DEFAULT_MEMPOOL_DISK = "64MiB", "1GiB"


@dataclass(frozen=True, slots=True)
class Reuse:
    """`mempool_bytes` and `mempool_disk_bytes` are each MemPool node's room in memory and on disk."""

    routing: str = DEFAULT_ROUTING
    caching: str = DEFAULT_CACHING
    mempool_bytes: int = 64 << 20
    mempool_disk_bytes: int = 1 << 30

    def variables(self) -> dict[str, str]:
        """For every member: those whom a variable does not concern ignore it."""
        return {
            "XPOD_ROUTING": self.routing,
            "XPOD_CACHING": self.caching,
            "XPOD_MEMPOOL_BYTES": str(self.mempool_bytes),
            "XPOD_MEMPOOL_DISK_BYTES": str(self.mempool_disk_bytes),
        }


def sizes_in(outer: Mapping[str, str]) -> dict[str, str]:
    """The sizes that a user's environment names, as services read them. Raises CliError for what is none."""
    names = ("XPOD_MEMPOOL_BYTES", "XPOD_MEMPOOL_DISK_BYTES")
    return {name: str(size(name, outer[name])) for name in names if name in outer}
