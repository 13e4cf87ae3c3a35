"""The configuration of a nats-server, and of N of them as a cluster.

Knows: nats-server's configuration format. Pure: text and paths only.
Does not know: processes (see `broker`), or who may do what there (see `broker_access`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from xpod_runtime.broker_access import Access, accounts, tls

ROUTE_USER = "route"


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """A node's part in a cluster: its own route port, and the routes of all nodes (its own may be among them)."""

    name: str
    host: str
    port: int
    routes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """One nats-server. `port` 0 takes a free one; sizes in bytes, `write_deadline` in seconds.

    `monitor_port` 0: none; without `writes_log` it logs to its output, without `writes_ports` nobody
    finds out a free one; without `access`, everybody is let in.
    """

    name: str
    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 0
    cluster: ClusterConfig | None = None
    max_payload: int = 1024 * 1024
    max_pending: int = 256 * 1024 * 1024
    write_deadline: float = 10.0
    jetstream: bool = True
    monitor_port: int = 0
    writes_log: bool = True
    writes_ports: bool = True
    access: Access | None = None

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
            *([f"log_file: {json.dumps(str(self.log_path))}"] if self.writes_log else []),
            *([f"http_port: {self.monitor_port}"] if self.monitor_port else []),
            *([f"ports_file_dir: {json.dumps(str(self.ports_dir))}"] if self.writes_ports else []),
            f"max_payload: {self.max_payload}",
            f"max_pending: {self.max_pending}",
            f'write_deadline: "{self.write_deadline:g}s"',
            *accounts(self.access, jetstream=self.jetstream),
            *tls(self.access),
            *self._jetstream(),
            *self._cluster(),
        ]
        return "\n".join(lines) + "\n"

    def _jetstream(self) -> list[str]:
        if not self.jetstream:
            return []
        return [f"jetstream {{store_dir: {json.dumps(str(self.data_dir / 'jetstream'))}}}"]

    def _cluster(self) -> list[str]:
        if self.cluster is None:
            return []
        routes, password = self.cluster.routes, []
        if self.access is not None:
            secret = self.access.route_password
            shown = f"nats://{ROUTE_USER}:{quote(secret, safe='')}@"
            routes = tuple(shown + route.removeprefix("nats://") for route in routes)
            known = {"user": ROUTE_USER, "password": secret}
            password = [f"authorization {json.dumps(known)}", *tls(self.access)]
        parts = [
            f"name: {json.dumps(self.cluster.name)}",
            f"listen: {json.dumps(f'{self.cluster.host}:{self.cluster.port}')}",
            f"routes: {json.dumps(routes)}",
            *password,
        ]
        return ["cluster {", *(f"  {part}" for part in parts), "}"]


def cluster_configs(
    count: int,
    data_dir: Path,
    *,
    host: str = "127.0.0.1",
    ports: Sequence[int] = (),
    route_ports: Sequence[int] = (),
    cluster: str = "xpod",
    writes_log: bool = True,
    access: Access | None = None,
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
            writes_log=writes_log,
            access=access,
        )
        for index in range(count)
    ]
