"""The NATS nodes that a local pod runs itself.

Knows: how the embedded broker of xpod_runtime is configured and which command runs it.
Does not know: who keeps the nodes alive, or who connects.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xpod.cli.credentials.files import write
from xpod.cli.errors import CliError
from xpod.cli.plan import MemberSpec
from xpod_runtime.broker import free_ports, nats_server_path
from xpod_runtime.broker_config import BrokerConfig, cluster_configs
from xpod_runtime.errors import BrokerError

if TYPE_CHECKING:
    from xpod.cli.credentials.keyring import Keyring

HOST = "127.0.0.1"


def prepare_nodes(
    count: int, data: Path, keyring: Keyring | None = None
) -> tuple[list[str], list[MemberSpec]]:
    """Writes the configuration of `count` nodes with fixed free ports; returns their URLs and their commands.

    With a `keyring`, they let in nobody else, and speak TLS.
    """
    ports = free_ports(2 * count, HOST)
    clients, routes = ports[:count], ports[count:]
    configs = cluster_configs(
        count,
        data / "nats",
        host=HOST,
        ports=clients,
        route_ports=routes,
        writes_log=False,
        access=keyring.access([HOST]) if keyring else None,
    )
    urls = [f"nats://{HOST}:{port}" for port in clients]
    try:
        binary = str(nats_server_path())
    except BrokerError as error:
        raise CliError(str(error)) from error
    return urls, [node(config, binary) for config in configs]


def node(config: BrokerConfig, binary: str) -> MemberSpec:
    """Writes a node's configuration; returns its command."""
    config.ports_dir.mkdir(parents=True, exist_ok=True)
    path = config.config_path
    write(path, config.render())
    return MemberSpec(config.name, "nats", (binary, "--config", str(path)), {})
