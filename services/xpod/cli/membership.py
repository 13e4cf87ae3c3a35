"""What `xpod status` says: a router's view of the pod, and the launcher's of its processes, made one.

Knows: both views, and which one to believe: a router knows who takes part, the launcher knows who lives.
Does not know: where the views come from, or how they are printed.
"""

from __future__ import annotations

import socket
from typing import Any

from xpod.cli.process import is_stopped
from xpod.cli.state import MemberState, PodState

Json = dict[str, Any]
STATES = ("up", "suspect", "down", "draining")
NO_PLACEMENT: Json = {"epoch": 0, "experts": {}}


def pod_status(view: Json | None, state: PodState | None) -> Json:
    """The object of `xpod status --json`, from a router's status and the launcher's state: either may be missing."""
    view = view or {}
    told = {str(member["id"]): member for member in view.get("members", [])}
    launched = {member.id: member for member in state.members} if state else {}
    members = [_merged(launched[name], told.get(name)) for name in launched]
    members += [member for name, member in told.items() if name not in launched]
    return {
        **view,
        "pod": view.get("pod") or (state.pod if state else ""),
        "model": view.get("model") or (state.model if state else ""),
        "ready": bool(view.get("ready")),
        "members": members,
        "placement": view.get("placement") or NO_PLACEMENT,
        "endpoints": list(state.endpoints) if state else list(view.get("endpoints", [])),
    }


def _merged(launched: MemberState, told: Json | None) -> Json:
    state, note = _state_of(launched, told)
    told = told or {}
    detail = dict(told.get("detail") or {})
    if launched.restarts:
        detail |= {"restarts": launched.restarts, "last_exit": launched.last_exit}
    if note:
        detail["note"] = note
    return {
        "id": launched.id,
        "kind": launched.kind,
        "pid": launched.process.pid if launched.process else None,
        "host": told.get("host") or socket.gethostname(),
        "state": state,
        "since": launched.since if state == "down" else told.get("since", launched.since),
        "detail": detail,
    }


def _state_of(launched: MemberState, told: Json | None) -> tuple[str, str]:
    """The state, and a remark. A dead process is down, whatever a router still thinks; a living one is what a
    router says, and suspect while it is not (or not yet) part of the pod."""
    if launched.process is None or not launched.runs:
        return "down", launched.note
    if launched.state == "draining":
        return "draining", ""
    if is_stopped(launched.process):
        return "suspect", "held by SIGSTOP"
    if launched.kind == "nats":
        return "up", ""
    if told is None:
        return "suspect", "not in the pod yet"
    state = str(told["state"])
    return (state, "") if state in STATES else ("suspect", state)
