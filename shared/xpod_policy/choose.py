"""Which worker gets a session.

Source: xDeepServe (2508.02520) §FlowServe for decode: leave out full groups, then the lowest KV use with the
reserved output room counted. Prefill goes to the least queued work.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from xpod_policy.membership import Member


def _number(member: Member, key: str) -> float:
    value = member.load.get(key, 0)
    return float(value) if not isinstance(value, str) else 0.0


def choose_prefill(
    members: Iterable[Member], sent: dict[str, int], avoid: Container[str] = ()
) -> Member | None:
    """The worker with the fewest tokens waiting; `sent` counts what heartbeats have not reported yet."""
    able = [member for member in members if member.usable and member.name not in avoid]
    return min(able, key=lambda m: (_number(m, "queued_tokens") + sent.get(m.name, 0), m.name), default=None)


def choose_decode(
    members: Iterable[Member], blocks: int, sent: dict[str, int], avoid: Container[str] = ()
) -> Member | None:
    """A worker with a free slot and room for `blocks`, the one with the least KV reserved."""
    able = [
        member
        for member in members
        if member.usable
        and member.name not in avoid
        and _number(member, "slots_free") > 0
        and _number(member, "blocks_free") >= blocks
    ]
    return min(
        able, key=lambda m: (_number(m, "blocks_reserved") + sent.get(m.name, 0), m.name), default=None
    )
