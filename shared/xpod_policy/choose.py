"""Which decode worker gets a session; `routing` chooses for prefill.

Source: xDeepServe (2508.02520) §FlowServe: leave out full groups, then the lowest KV use with the reserved output
room counted.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from xpod_policy.membership import Member
from xpod_policy.told import number


def choose_decode(
    members: Iterable[Member], blocks: int, sent: Mapping[str, int], avoid: Container[str] = ()
) -> Member | None:
    """A worker with a free slot and room for `blocks`, the one with the least KV reserved.

    `sent` counts blocks that heartbeats have not reported yet.
    """
    able = [
        member
        for member in members
        if member.usable
        and member.name not in avoid
        and (number(member, "slots_free") or 0) > 0
        and (number(member, "blocks_free") or 0) >= blocks
    ]
    return min(
        able,
        key=lambda m: ((number(m, "blocks_reserved") or 0) + sent.get(m.name, 0), m.name),
        default=None,
    )
