"""The router's engine: opens sessions, and says whether the pod can serve and who is in it."""

from __future__ import annotations

import secrets
import time
from typing import Any

from xpod.common.experts import ExpertDirectory
from xpod.common.service import now
from xpod.router.api.engine_protocol import NotReady, Overloaded
from xpod.router.api.resume import Place
from xpod.router.brokers import Brokers
from xpod.router.session import LiveSession, Surroundings
from xpod.router.taking_over import take_over
from xpod_model.config import ModelConfig
from xpod_policy.membership import Change, Member
from xpod_proto import PrefillDone, SamplingSpec, SessionFailed


class RouterEngine:
    """All live sessions of one router. `limit` bounds how many there are at once."""

    def __init__(
        self,
        around: Surroundings,
        model: ModelConfig,
        directory: ExpertDirectory,
        brokers: Brokers,
        *,
        name: str,
        max_model_len: int,
        limit: int,
    ) -> None:
        self._around = around
        self._model = model
        self._directory = directory
        self._brokers = brokers
        self._limit = limit
        self._sessions: dict[str, LiveSession] = {}
        self.model_name = name
        self.max_model_len = max_model_len
        self.vocab_size = model.vocab
        self.eos_token_ids = model.eos_token_ids

    @property
    def live(self) -> int:
        """Sessions under way."""
        return sum(not session.done for session in self._sessions.values())

    @property
    def divergences(self) -> int:
        """Duplicate tokens that differed from the first."""
        return self._around.counters.divergences_seen

    async def open(
        self, prompt: list[int], sampling: SamplingSpec, place: Place | None = None
    ) -> LiveSession:
        """Start a generation, or go on behind `place`. Raises NotReady, Overloaded."""
        self._forget_ended()
        ready, reason = self.ready()
        if not ready:
            raise NotReady(reason)
        if len(self._sessions) >= self._limit:
            raise Overloaded(1.0)
        said = [] if place is None else await take_over(self._around, place)
        session = LiveSession(self._around, f"s{secrets.token_hex(12)}", prompt, sampling)
        self._sessions[session.id] = session
        self._around.counters.sessions.inc()
        try:
            await session.open(said)
        except BaseException:  # a client that left in this moment must not leave a session behind
            await session.cancel()
            raise
        return session

    def _forget_ended(self) -> None:
        for session in [session for session in self._sessions.values() if session.done]:
            del self._sessions[session.id]

    # what the pod says

    def prefill_done(self, message: PrefillDone) -> None:
        if (session := self._sessions.get(message.session)) is not None:
            session.on_prefill_done(message)

    def session_failed(self, message: SessionFailed) -> None:
        if (session := self._sessions.get(message.session)) is not None:
            session.on_failed(message)

    async def member_changed(self, change: Change) -> None:
        """A member that died, or came back as another process, has lost its sessions."""
        member = change.member
        if not member.alive or change.reborn:
            for session in list(self._sessions.values()):
                session.on_lost(member.name, f"{member.name} is down: {change.reason}")

    def reconnected(self) -> None:
        """What was said while nobody listened has to be asked for."""
        for session in list(self._sessions.values()):
            session.ask()

    def heartbeat(self, member: str) -> None:
        """The member's load is fresh: what was sent to it is counted there."""
        self._around.sent.pop(member, None)

    # what the pod is

    def ready(self) -> tuple[bool, str]:
        """Whether every part of a token's way is there, and if not, what is missing."""
        for kind in ("prefill", "decode"):
            if not self._around.view.usable(kind):
                return False, f"no {kind} worker is up"
        missing = self._directory.routing.missing()
        if missing:
            layer, expert = missing[0]
            return (
                False,
                f"{len(missing)} experts are not loaded yet, the first is expert {expert} of layer {layer}",
            )
        return True, ""

    def status(self) -> dict[str, Any]:
        """The object of `xpod status --json`."""
        routing = self._directory.routing
        members = sorted(self._around.view.table.members.values(), key=lambda m: (m.kind, m.name))
        experts = {
            str(layer): {str(e): list(routing.holders(layer, e)) for e in range(routing.experts)}
            for layer in routing.moe_layers
        }
        epochs = [m.load.get("placement_epoch", 0) for m in members if m.kind == "expert"]
        return {
            "pod": self._around.pod,
            "model": self.model_name,
            "ready": self.ready()[0],
            "members": [*self._brokers.members(), *(_describe(member) for member in members)],
            "placement": {
                "epoch": max((e for e in epochs if isinstance(e, int)), default=0),
                "experts": experts,
            },
            "endpoints": sorted(
                str(m.detail["url"]) for m in members if m.kind == "router" and "url" in m.detail
            ),
        }


def _describe(member: Member) -> dict[str, Any]:
    """`since` is a Unix time: since when it is in that state."""
    return {
        "id": member.name,
        "kind": member.kind,
        "pid": member.pid,
        "host": member.host,
        "state": member.state,
        "since": round(time.time() - (now() - member.since), 3),
        "detail": {**member.detail, **member.load, "fingerprint": member.fingerprint},
    }
