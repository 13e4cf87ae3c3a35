"""Whom a nats-server lets in, and to what: accounts, users, TLS, in its configuration's format.

Knows: nats-server's `accounts`, `tls` and `authorization`. Pure: text only.
Does not know: where keys are kept, or who may do what (`xpod_proto.rights`).

Members share one account. Server events of that account (who was cut off) are imported into it, so that a member hears
of a killed process at `DISCONNECTS` on its own connection; nobody needs the system account for that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from xpod_proto.rights import Rights

ACCOUNT = "XPOD"
DISCONNECTS = f"$SYS.ACCOUNT.{ACCOUNT}.DISCONNECT"
"""JSON events of nats-server; `client.name` is the connection's name."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Files in PEM; clients and other nodes of the cluster are to check the certificate by `authority`."""

    certificate: str
    key: str
    authority: str


@dataclass(frozen=True, slots=True)
class Access:
    """`users` are public NKeys and what each may do; `system` is that of the system account.

    `route_password` is what the nodes of a cluster show each other.
    """

    users: Mapping[str, Rights]
    system: str
    route_password: str = field(repr=False)
    tls: ServerTls | None = None


def accounts(access: Access | None, *, jetstream: bool) -> list[str]:
    """Lines of the configuration; without `access`, whoever reaches the server may do everything but administer it."""
    enabled = "jetstream: enabled, " if jetstream else ""
    event = json.dumps(DISCONNECTS)
    if access is None:
        users, system, otherwise = "{user: xpod, password: xpod}", "", ["no_auth_user: xpod"]
    else:
        users = ", ".join(_user(key, rights) for key, rights in access.users.items())
        system, otherwise = f", users: [{{nkey: {json.dumps(access.system)}}}]", []
    return [
        "accounts {",
        f"  SYS: {{exports: [{{stream: {event}}}]{system}}}",
        f"  {ACCOUNT}: {{{enabled}users: [{users}], imports: [{{stream: {{account: SYS, subject: {event}}}}}]}}",
        "}",
        "system_account: SYS",
        *otherwise,
    ]


def _user(key: str, rights: Rights) -> str:
    permissions = {
        "publish": {"allow": list(rights.publish)},
        "subscribe": {"allow": [*rights.subscribe, DISCONNECTS]},
    }
    return f"{{nkey: {json.dumps(key)}, permissions: {json.dumps(permissions)}}}"


def tls(access: Access | None) -> list[str]:
    """The line of clients' TLS, or of a cluster's, if there is any."""
    if access is None or access.tls is None:
        return []
    files = access.tls
    named = {"cert_file": files.certificate, "key_file": files.key, "ca_file": files.authority}
    return [f"tls {json.dumps(named)}"]
