"""Whether the members that one machine gives to a pod are up: what they say of themselves on the bus.

Knows: heartbeats. Does not know: the rest of the pod, which may be started later.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xpod.cli.plan import MemberSpec
from xpod_proto import Heartbeat, Message, subjects
from xpod_runtime.credentials import Credentials, read_credentials
from xpod_runtime.errors import BusError, ConfigError
from xpod_runtime.nats_bus import NatsBus

CONNECT_SECONDS = 2.0


class HeartbeatProbe:
    """Ready: each of `members` says that it is up. Give it to a Launcher, and close it afterwards.

    It listens as the members do: with the credentials of each kind, which let it hear that kind.
    """

    def __init__(self, pod: str, nats_urls: Sequence[str], members: Sequence[MemberSpec]) -> None:
        self._pod, self._urls = pod, list(nats_urls)
        self._directories = {spec.kind: spec.env.get("XPOD_CREDENTIALS", "") for spec in members}
        self._states = {spec.id: "" for spec in members}
        self._buses: dict[str, NatsBus] = {}

    async def __call__(self) -> str:
        """Why the part is not ready; empty when it is."""
        try:
            for kind in self._directories.keys() - self._buses.keys():
                self._buses[kind] = await self._listening(kind)
        except (BusError, ConfigError) as error:
            return str(error)
        missing = [member for member, state in self._states.items() if state != "up"]
        return f"not up yet: {', '.join(missing)}" if missing else ""

    async def close(self) -> None:
        for bus in self._buses.values():
            await bus.close()

    async def _listening(self, kind: str) -> NatsBus:
        inbox, directory = subjects.inbox(self._pod, kind), self._directories[kind]
        credentials = read_credentials(Path(directory), inbox) if directory else Credentials(inbox)
        bus = await NatsBus.connect(self._urls, "launcher", wait=CONNECT_SECONDS, credentials=credentials)
        await bus.subscribe(subjects.heartbeat(self._pod, kind), self._on_heartbeat)
        return bus

    async def _on_heartbeat(self, message: Message) -> None:
        if isinstance(message, Heartbeat) and message.member in self._states:
            self._states[message.member] = message.state
