"""Which decode worker gets a session."""

from __future__ import annotations

import pytest

from xpod_policy.choose import choose_decode
from xpod_policy.membership import Member, State, Value


def worker(name: str, state: State = "up", **load: Value) -> Member:
    return Member(name, "any", "i", 1, "host", "print", state, 0.0, 0.0, {}, load)


def slots(name: str, free: Value, blocks: Value, reserved: Value, state: State = "up") -> Member:
    return worker(name, state, slots_free=free, blocks_free=blocks, blocks_reserved=reserved)


@pytest.mark.parametrize(
    ("members", "blocks", "sent", "avoid", "chosen"),
    [
        ([], 1, {}, (), None),
        ([slots("a", 1, 10, 5), slots("b", 1, 10, 4)], 10, {}, (), "b"),
        ([slots("a", 1, 10, 5), slots("b", 0, 10, 0)], 1, {}, (), "a"),
        ([slots("a", 1, 10, 5), slots("b", 1, 9, 0)], 10, {}, (), "a"),
        ([slots("a", 1, 10, 5), slots("b", 1, 10, 4)], 11, {}, (), None),
        ([slots("a", 1, 10, 5), slots("b", 1, 10, 4)], 1, {"b": 2}, (), "a"),
        ([slots("b", 1, 10, 5), slots("a", 1, 10, 4)], 1, {"a": 1}, (), "a"),
        ([slots("a", 1, 10, 5), slots("b", 1, 10, 4)], 1, {}, {"b"}, "a"),
        ([slots("a", 1, 10, 5), slots("b", 1, 10, 4, "suspect")], 1, {}, (), "a"),
        ([worker("silent")], 0, {}, (), None),
        ([slots("odd", "many", 10, 0)], 1, {}, (), None),
    ],
)
def test_decode(
    members: list[Member], blocks: int, sent: dict[str, int], avoid: set[str], chosen: str | None
) -> None:
    found = choose_decode(members, blocks, sent, avoid)
    assert (found.name if found else None) == chosen
