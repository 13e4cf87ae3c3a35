"""What is wrong with a pod that runs, from its status.

Knows: what `xpod status --json` says of a pod that is well. Does not know: how it is asked. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from xpod.cli.doctor.check import Check

RESTARTS = 3


def this_pod(status: dict[str, Any], problem: str = "") -> Iterator[Check]:
    """`problem`: why no router answered."""
    if problem:
        yield Check.bad("routers", problem, "xpod logs router-0, or xpod status for who lives")
    elif not status["ready"]:
        yield Check.bad("pod", "not ready", "wait for the members below, or see xpod logs --level warning")
    else:
        yield Check.ok("pod", f"{status['pod']} serves {status['model']}")
    yield from _members(status["members"])
    yield from _same_numerics(status["members"])
    yield from _experts(status["placement"]["experts"])


def _members(members: list[dict[str, Any]]) -> Iterator[Check]:
    states = Counter(member["state"] for member in members)
    if set(states) <= {"up"}:
        yield Check.ok("members", f"{states['up']} up")
    for member in members:
        name, note = member["id"], member["detail"].get("note", "")
        found = f"{name} is {member['state']}" + (f": {note}" if note else "")
        if member["state"] == "down":
            yield Check.bad("members", found, f"xpod logs {name}")
        elif member["state"] == "suspect":
            yield Check.note(
                "members", found, f"xpod kill {name} --signal CONT wakes it where somebody stopped it"
            )
        restarts = member["detail"].get("restarts", 0)
        if restarts >= RESTARTS:
            last = member["detail"].get("last_exit", "")
            yield Check.note(
                "members", f"{name} was started again {restarts} times ({last})", f"xpod logs {name}"
            )


def _same_numerics(members: list[dict[str, Any]]) -> Iterator[Check]:
    """Those that compute have to compute the same: another fingerprint is not used."""
    prints = {
        member["id"]: member["detail"]["fingerprint"]
        for member in members
        if member["detail"].get("fingerprint") and member["state"] != "down"
    }
    usual, count = Counter(prints.values()).most_common(1)[0] if prints else ("", 0)
    odd = sorted(name for name, found in prints.items() if found != usual)
    if odd:
        advice = "the same versions, --dtype and kind of processor everywhere; who differs is not used"
        yield Check.bad("numerics", f"{', '.join(odd)} compute otherwise than {count} others", advice)
    elif prints:
        yield Check.ok("numerics", f"{count} members compute the same")


def _experts(layers: dict[str, dict[str, list[str]]]) -> Iterator[Check]:
    held = [len(shards) for experts in layers.values() for shards in experts.values()]
    if not held:
        return
    if min(held) == 0:
        yield Check.bad(
            "experts",
            f"{held.count(0)} are held by nobody",
            "shards that start hold them soon; see xpod status",
        )
    elif min(held) == 1:
        advice = "a shard's death costs the time of loading: XPOD_COPIES=2, where memory allows"
        yield Check.note("experts", f"{held.count(1)} of {len(held)} are held once", advice)
    else:
        yield Check.ok("experts", f"each is held {min(held)} times or more")
