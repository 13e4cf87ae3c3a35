"""The configuration of a nats-server, and of N of them as a cluster.

Knows: nats-server's configuration format. Pure: text and paths only.
Does not know: processes (see `broker`).

All clients share one account and need no password. Server events of that account (who connected, who was
cut off) are imported into it, so that a member hears of a killed process at `DISCONNECTS` on its own connection.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ACCOUNT = "XPOD"
CONNECTS = f"$SYS.ACCOUNT.{ACCOUNT}.CONNECT"
DISCONNECTS = f"$SYS.ACCOUNT.{ACCOUNT}.DISCONNECT"
"""JSON events of nats-server; `client.name` is the connection's name."""


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """A node's part in a cluster: its own route port, and the routes of all nodes (its own may be among them)."""

    name: str
    host: str
    port: int
    routes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """One nats-server. `port` 0 takes a free one; sizes in bytes, `write_deadline` in seconds."""

    name: str
    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 0
    cluster: ClusterConfig | None = None
    max_payload: int = 1024 * 1024
    max_pending: int = 256 * 1024 * 1024
    write_deadline: float = 10.0
    jetstream: bool = True

    @property
    def config_path(self) -> Path:
        return self.data_dir / "nats-server.conf"

    @property
    def log_path(self) -> Path:
        return self.data_dir / "nats-server.log"

    @property
    def ports_dir(self) -> Path:
        return self.data_dir / "ports"

    def render(self, port: int | None = None) -> str:
        """The configuration file; `port` overrides the configured one (a restart keeps its port)."""
        chosen = self.port if port is None else port
        lines = [
            f"server_name: {json.dumps(self.name)}",
            f"listen: {json.dumps(f'{self.host}:{chosen or -1}')}",
            f"log_file: {json.dumps(str(self.log_path))}",
            f"ports_file_dir: {json.dumps(str(self.ports_dir))}",
            f"max_payload: {self.max_payload}",
            f"max_pending: {self.max_pending}",
            f'write_deadline: "{self.write_deadline:g}s"',
            *self._accounts(),
            *self._jetstream(),
            *self._cluster(),
        ]
        return "\n".join(lines) + "\n"

    def _accounts(self) -> list[str]:
        jetstream = "jetstream: enabled, " if self.jetstream else ""
        events = (CONNECTS, DISCONNECTS)
        exports = ", ".join(f"{{stream: {json.dumps(event)}}}" for event in events)
        imports = ", ".join(f"{{stream: {{account: SYS, subject: {json.dumps(event)}}}}}" for event in events)
        return [
            "accounts {",
            f"  SYS: {{exports: [{exports}]}}",
            f"  {ACCOUNT}: {{{jetstream}users: [{{user: xpod, password: xpod}}], imports: [{imports}]}}",
            "}",
            "system_account: SYS",
            "no_auth_user: xpod",
        ]

    def _jetstream(self) -> list[str]:
        if not self.jetstream:
            return []
        return [f"jetstream {{store_dir: {json.dumps(str(self.data_dir / 'jetstream'))}}}"]

    def _cluster(self) -> list[str]:
        if self.cluster is None:
            return []
        routes = ", ".join(json.dumps(route) for route in self.cluster.routes)
        listen = json.dumps(f"{self.cluster.host}:{self.cluster.port}")
        return [f"cluster {{name: {json.dumps(self.cluster.name)}, listen: {listen}, routes: [{routes}]}}"]


def cluster_configs(
    count: int,
    data_dir: Path,
    *,
    host: str = "127.0.0.1",
    ports: Sequence[int] = (),
    route_ports: Sequence[int] = (),
    cluster: str = "xpod",
) -> list[BrokerConfig]:
    """The configurations of `count` nodes, each in its own folder `nats-<i>` below `data_dir`.

    `ports` are the client ports (none: free ones). Several nodes need one route port each, known beforehand.
    """
    if count < 1 or (ports and len(ports) != count) or (count > 1 and len(route_ports) != count):
        raise ValueError(f"{count} nodes need {count} ports and route ports, got {ports} and {route_ports}")
    routes = tuple(f"nats://{host}:{port}" for port in route_ports)
    return [
        BrokerConfig(
            name=f"nats-{index}",
            data_dir=data_dir / f"nats-{index}",
            host=host,
            port=ports[index] if ports else 0,
            cluster=ClusterConfig(cluster, host, route_ports[index], routes) if count > 1 else None,
        )
        for index in range(count)
    ]
