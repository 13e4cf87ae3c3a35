"""`xpod credentials`: keys, certificates and configurations for a pod whose NATS nodes are started by others.

Knows: its options. Does not know: what files there are (see `keyring`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from xpod.cli.errors import BAD_USAGE, CliError
from xpod_runtime.config import TOKEN

HOST = r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}"
CLIENT_PORT, ROUTE_PORT, MONITOR_PORT = 4222, 6222, 8222


def credentials(  # noqa: PLR0917
    directory: Annotated[Path, Argument(metavar="DIR", help="Where they are kept; what is there stays.")],
    node: Annotated[
        list[str],
        Option("--node", metavar="HOST", help="A NATS node, by the name that others reach it by; repeat it."),
    ],
    pod: Annotated[str, Option("--pod", envvar="XPOD_POD", help="The pod's name on the bus.")] = "xpod",
    tls: Annotated[
        bool,
        Option("--tls", envvar="XPOD_NATS_TLS", help="Nodes speak TLS, by an authority of the pod's own."),
    ] = False,
    store: Annotated[Path, Option("--store", help="Where a node keeps its streams.")] = Path("/data"),
    owner: Annotated[
        int | None, Option("--owner", metavar="UID", help="The user that members run as, if another.")
    ] = None,
) -> int:
    """Make the credentials of a pod, and the configurations of its NATS nodes.

    A member gets DIR/KIND as XPOD_CREDENTIALS, and node HOST runs nats-server --config DIR/nats/HOST.conf.
    """
    import re

    from xpod.cli.credentials.files import give, write
    from xpod.cli.credentials.keyring import Keyring
    from xpod_proto import subjects
    from xpod_runtime.broker_config import BrokerConfig, ClusterConfig

    if not re.fullmatch(TOKEN, pod):
        raise CliError(f"--pod: {pod!r} is not a name (letters, digits, - and _)", BAD_USAGE)
    for host in node:
        if not re.fullmatch(HOST, host):
            raise CliError(f"--node: {host!r} is not a host's name or address", BAD_USAGE)
        if node.count(host) > 1:
            raise CliError(f"--node: {host} is named twice", BAD_USAGE)
    keyring = Keyring(directory.expanduser().resolve(), pod)
    try:
        access = keyring.access(node if tls else None)
        routes = tuple(f"nats://{host}:{ROUTE_PORT}" for host in node)
        for host in node:
            cluster = ClusterConfig("xpod", "0.0.0.0", ROUTE_PORT, routes) if len(node) > 1 else None
            config = BrokerConfig(
                host,
                store,
                host="0.0.0.0",
                port=CLIENT_PORT,
                cluster=cluster,
                monitor_port=MONITOR_PORT,
                writes_log=False,
                writes_ports=False,
                access=access,
            )
            write(keyring.nats / f"{host}.conf", config.render())
        if owner is not None:
            for kind in subjects.KINDS:
                give(keyring.of(kind), owner)
    except OSError as error:
        raise CliError(f"{error.filename or directory}: {error.strerror}") from error
    print(f"{keyring.root}: credentials of {pod} for {', '.join(subjects.KINDS)}, and {len(node)} NATS nodes")
    return 0
