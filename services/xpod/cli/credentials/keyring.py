"""All credentials of one pod in one directory, made at the first start and kept.

    router/nats.nk …      a seed for each kind of service; beside it ca.pem, where there is TLS
    system/nats.nk        for NATS' system account, which no service needs
    nats/                 what NATS nodes read: their certificate, their configurations
    pod                   its name, which subjects begin with
    authority/            the key of the pod's own authority; nothing that runs reads it

Knows: that layout. Does not know: who starts nodes and members (see `nats_nodes`, `plan`).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xpod.cli.credentials.files import kept, private, write
from xpod.cli.errors import CliError
from xpod_proto import subjects
from xpod_proto.rights import rights
from xpod_runtime.broker_access import Access, ServerTls
from xpod_runtime.credentials import AUTHORITY_FILE, KEY_FILE, Credentials, new_seed

SYSTEM = "system"
POD_FILE = "pod"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Keyring:
    """The credentials of `pod` below `root`."""

    root: Path
    pod: str

    def of(self, kind: str) -> Path:
        """The directory that a member of that kind is given."""
        return self.root / kind

    @property
    def nats(self) -> Path:
        """The directory that NATS nodes are given."""
        return self.root / "nats"

    def access(self, hosts: Sequence[str] | None = None) -> Access:
        """Makes what is missing; whom servers let in. With `hosts`, which name the servers, they speak TLS."""
        write(private(self.root) / POD_FILE, self.pod)
        users = {self._public_key(kind): rights(self.pod, kind) for kind in subjects.KINDS}
        password = kept(private(self.nats) / "route.password", lambda: secrets.token_urlsafe(32))
        system = self._public_key(SYSTEM)
        return Access(users, system, password, self._tls(hosts) if hosts is not None else None)

    def _public_key(self, who: str) -> str:
        return Credentials(seed=kept(private(self.of(who)) / KEY_FILE, new_seed)).public_key

    def _tls(self, hosts: Sequence[str]) -> ServerTls:
        from xpod.cli.credentials.authority import (
            authority_certificate,
            new_key,
            server_certificate,
            still_serves,
        )

        named = tuple(dict.fromkeys([*hosts, *LOOPBACK]))
        directory = private(self.root / "authority")
        authority_key = kept(directory / "ca.key", new_key)
        authority = kept(directory / AUTHORITY_FILE, lambda: authority_certificate(authority_key, self.pod))
        certificate, key = self.nats / "server.pem", self.nats / "server.key"
        server_key = kept(key, new_key)
        if not (certificate.exists() and still_serves(certificate.read_text(), named)):
            write(certificate, server_certificate(server_key, authority, authority_key, named))
        for reader in (*subjects.KINDS, SYSTEM, self.nats.name):
            write(self.root / reader / AUTHORITY_FILE, authority)
        return ServerTls(str(certificate), str(key), str(self.nats / AUTHORITY_FILE))


def found(root: Path) -> Keyring:
    """The one that was made in `root`. Raises CliError where there is none."""
    try:
        return Keyring(root, (root / POD_FILE).read_text().strip())
    except OSError as error:
        raise CliError(f"{root} has no credentials: xpod credentials makes them ({error.strerror})") from None
