"""A process's own `/metrics`, for Prometheus.

Knows: a registry and an address. Does not know: what is measured. It answers from threads of its own, so that whoever
scrapes never holds up the event loop, and hears from a process whose loop hangs.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server

from xpod_runtime.errors import XpodError

NOWHERE = -1
"""The port of a process that serves no metrics of its own."""
EVERYWHERE = frozenset({"", "0.0.0.0", "::"})


class MetricsPortTaken(XpodError):
    """The address cannot be listened on."""

    code = "port_taken"


@contextmanager
def exposed(registry: CollectorRegistry, host: str, port: int) -> Iterator[str]:
    """The URL of the registry while the block runs; empty for the port NOWHERE. Port 0 is any free one.

    Raises MetricsPortTaken.
    """
    if port == NOWHERE:
        yield ""
        return
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise MetricsPortTaken(f"no metrics on {host}:{port}: {error.strerror}") from error
    try:
        yield metrics_url(host, server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def metrics_url(host: str, port: int) -> str:
    """As others reach it: who listens everywhere is called by its host's name."""
    name = socket.gethostname() if host in EVERYWHERE else host
    return f"http://[{name}]:{port}/metrics" if ":" in name else f"http://{name}:{port}/metrics"
