"""The HTTP server of a router: its socket, its connections, and TLS where it is wanted.

Knows: uvicorn. Does not know: the application that it serves.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from xpod.router.connections import Connections, Guarded
from xpod_runtime.addresses import is_loopback
from xpod_runtime.errors import ConfigError, XpodError

BACKLOG = 1024
HANDSHAKE_SECONDS = 10.0


class PortTaken(XpodError):
    """The address cannot be listened on."""

    code = "port_taken"


def refuse_open(host: str, closed: bool, insecure: bool) -> None:
    """Raises ConfigError where other machines could ask without a key, and nobody has said that they may."""
    if not (closed or insecure or is_loopback(host)):
        raise ConfigError(
            f"--host {host} is open to other machines, and there is no API key: xpod key add NAME and "
            "--api-keys-file, or XPOD_API_KEY; --insecure where it may be open"
        )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortTaken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortTaken(f"cannot listen on {host}:{port}: {error.strerror}") from error
    listener.listen(BACKLOG)
    return listener


class HttpServer(uvicorn.Server):
    """Serves `app` on sockets that listen; with `tls`, in TLS alone."""

    def __init__(self, app: ASGIApp, connections: Connections, tls: ssl.SSLContext | None = None) -> None:
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", ws="none", proxy_headers=False
        )
        super().__init__(config)
        logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it warns of every request that is none
        self._connections = connections
        self._tls = tls

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Take none: signals are the process's business (see `xpod_runtime.process`)."""
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections."""
        loop = asyncio.get_running_loop()
        await self.lifespan.startup()
        protocol: Any = partial(
            Guarded,
            self._connections,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        handshake = HANDSHAKE_SECONDS if self._tls is not None else None
        self.servers = [
            await loop.create_server(
                protocol, sock=each, ssl=self._tls, ssl_handshake_timeout=handshake, backlog=BACKLOG
            )
            for each in sockets or []
        ]
        self.started = True
