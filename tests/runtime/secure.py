"""A nats-server that lets in none but its users, over TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from xpod.cli.credentials.keyring import Keyring
from xpod_proto import subjects
from xpod_proto.rights import Rights
from xpod_runtime.broker import Broker
from xpod_runtime.broker_config import BrokerConfig
from xpod_runtime.credentials import Credentials, read_credentials

POD = "xpod"
ALL = {"router": Rights((">",), (">",))}


@dataclass(frozen=True)
class SecureBroker:
    """Where it is, whose credentials it takes, and what it said."""

    url: str
    keyring: Keyring
    log: Path

    def of(self, kind: str) -> Credentials:
        """A member's of that kind."""
        return read_credentials(self.keyring.of(kind), subjects.inbox(POD, kind))

    @property
    def credentials(self) -> Credentials:
        """The first user's."""
        return self.of("router")


@contextmanager
def secure_server(
    folder: Path, others: Mapping[str, Rights] | None = None, *, tls: bool = True, jetstream: bool = False
) -> Iterator[SecureBroker]:
    """With the users of a pod, or others by the kinds whose keys they have."""
    keyring = Keyring(folder / "credentials", POD)
    access = keyring.access(["127.0.0.1"] if tls else None)
    made = SecureBroker("", keyring, folder / "nats-server.log")
    if others is not None:
        access = replace(access, users={made.of(kind).public_key: may for kind, may in others.items()})
    broker = Broker(BrokerConfig(name="secure", data_dir=folder, jetstream=jetstream, access=access))
    broker.start()
    try:
        asyncio.run(broker.wait_ready())
        yield replace(made, url=broker.url)
    finally:
        broker.kill()
