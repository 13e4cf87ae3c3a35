"""Which addresses other machines reach."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Is it an address of this machine alone? A name that is not `localhost` may be any."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
