"""The NATS nodes that a local pod runs itself.

Knows: how the embedded broker of xpod_runtime is configured and which command runs it.
Does not know: who keeps the nodes alive, or who connects.
"""

from __future__ import annotations

from pathlib import Path

from xpod.cli.errors import CliError
from xpod.cli.plan import MemberSpec
from xpod_runtime.broker import free_ports, nats_server_path
from xpod_runtime.broker_config import BrokerConfig, cluster_configs
from xpod_runtime.errors import BrokerError

HOST = "127.0.0.1"


def prepare_nodes(count: int, data: Path) -> tuple[list[str], list[MemberSpec]]:
    """Writes the configuration of `count` nodes with fixed free ports; returns their URLs and their commands."""
    ports = free_ports(2 * count, HOST)
    clients, routes = ports[:count], ports[count:]
    configs = cluster_configs(count, data / "nats", host=HOST, ports=clients, route_ports=routes)
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
    path.write_text(_log_to_output(config))
    return MemberSpec(config.name, "nats", (binary, "--config", str(path)), {})


def _log_to_output(config: BrokerConfig) -> str:
    """The configuration without its log file: the launcher collects the output of every member in one place."""
    lines = config.render().splitlines()
    return "\n".join(line for line in lines if not line.startswith("log_file:")) + "\n"
