"""How the command line meets routers: its API key, and whom it trusts to be a router.

Knows: XPOD_CLIENT_KEY, XPOD_API_KEY and XPOD_CA. Does not know: what is asked.
"""

from __future__ import annotations

import os
import ssl
from functools import cache

import httpx

from xpod.cli.errors import BAD_USAGE, CliError


def key() -> str:
    """XPOD_CLIENT_KEY, or the first of the keys in XPOD_API_KEY, which members that were launched from here ask for."""
    return (
        os.environ.get("XPOD_CLIENT_KEY", "").strip()
        or os.environ.get("XPOD_API_KEY", "").split(",")[0].strip()
    )


def credentials() -> dict[str, str]:
    """The header with that key, if there is one."""
    return {"Authorization": f"Bearer {key()}"} if key() else {}


def context() -> ssl.SSLContext:
    """Trusts the authority in the file XPOD_CA, or else those of the system. Raises CliError."""
    return _context(os.environ.get("XPOD_CA", ""))


@cache
def _context(authority: str) -> ssl.SSLContext:
    """To read all root certificates takes 30 ms: once a process, not once a client."""
    if not authority:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=os.path.expanduser(authority))
    except (OSError, ssl.SSLError) as error:
        raise CliError(f"XPOD_CA: {authority} is no certificate (PEM): {error}", BAD_USAGE) from error
