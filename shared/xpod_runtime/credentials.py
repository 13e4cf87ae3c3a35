"""Who a connection says it is, and how it knows the servers: an NKey, and the certificate of the pod's authority.

Knows: the files of a member's directory of credentials, NKeys (docs.nats.io, "NKeys"), TLS contexts.
Does not know: who may do what (`xpod_proto.rights`), or how the files come to be there.
"""

from __future__ import annotations

import base64
import functools
import secrets
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nkeys

from xpod_proto import subjects
from xpod_runtime.config import ServiceConfig
from xpod_runtime.errors import BusError, ConfigError

KEY_FILE, AUTHORITY_FILE = "nats.nk", "ca.pem"
"""In a member's directory: its seed, and the authority whose servers it trusts, where they speak TLS."""
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Credentials:
    """`inbox` is what the subjects of answers begin with; no `seed`: no user; no `authority`: no TLS of our own."""

    inbox: str = "_INBOX"
    seed: str = field(default="", repr=False)
    authority: str = ""

    @property
    def public_key(self) -> str:
        """The user's name, as servers know it."""
        return str(nkeys.from_seed(bytearray(self.seed.encode())).public_key.decode())

    def signature(self, nonce: str) -> str:
        """What proves to the server that chose `nonce` that we have the seed."""
        signed = nkeys.from_seed(bytearray(self.seed.encode())).sign(nonce.encode())
        return base64.urlsafe_b64encode(signed).rstrip(b"=").decode()

    def tls(self) -> ssl.SSLContext | None:
        """Trusts that one authority, and nobody without TLS; None: as the server wishes, by the system's trust."""
        return _context(self.authority) if self.authority else None


@functools.cache
def _context(authority: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority)


NOBODY = Credentials()


def new_seed() -> str:
    """Of a new user."""
    return str(nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER).decode())


def refuse_plain(info: Mapping[str, Any], trust: ssl.SSLContext | None) -> None:
    """Raises BusError where a server greets us (`info`) without TLS though we have an authority to check it by."""
    if trust is not None and not info.get("tls_required"):
        raise BusError("the server does not speak TLS, and we have the pod's authority to check it by")


def credentials_of(config: ServiceConfig) -> Credentials:
    """A member's, from its directory. Raises ConfigError where that has no key, or others can read it."""
    inbox = subjects.inbox(config.pod, config.kind)
    if not config.credentials:
        return Credentials(inbox)
    return read_credentials(Path(config.credentials), inbox)


def read_credentials(directory: Path, inbox: str) -> Credentials:
    """Those in `directory`. Raises ConfigError."""
    key, authority = directory / KEY_FILE, directory / AUTHORITY_FILE
    try:
        if key.stat().st_mode & _OTHERS:
            raise ConfigError(f"{key} can be read by others: chmod 600 {key}")
        seed = key.read_text().strip()
        nkeys.from_seed(bytearray(seed.encode()))
    except OSError as error:
        raise ConfigError(f"no credentials for NATS: {error.strerror}: {error.filename}") from None
    except (ValueError, nkeys.NkeysError):
        raise ConfigError(f"{key} is not the seed of an NKey") from None
    return Credentials(inbox, seed, str(authority) if authority.is_file() else "")
