"""Tenants that wait are served in turn, whatever each of them asks for."""

from __future__ import annotations

from random import Random
from typing import TypeVar

import pytest

from xpod_policy.fair_queue import FairQueue

T = TypeVar("T", str, int)


def drained(queue: FairQueue[T]) -> list[T]:
    found = []
    while (item := queue.pop()) is not None:
        found.append(item)
    return found


def test_one_tenant_is_served_in_order() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in "abc":
        queue.push(item, "one", 10)
    assert drained(queue) == ["a", "b", "c"]


def test_whoever_comes_to_a_flood_is_next() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(100):
        queue.push(f"flood {number}", "loud", 10)
    assert [queue.pop() for _ in range(3)] == ["flood 0", "flood 1", "flood 2"]
    queue.push("quiet", "quiet", 10)
    assert "quiet" in [queue.pop(), queue.pop()]


def test_turns_count_what_is_asked_for() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(40):
        queue.push(f"long {number}", "long", 30)
        queue.push(f"short {number}", "short", 10)
    first = [queue.pop() or "" for _ in range(40)]
    assert sum(item.startswith("short") for item in first) == pytest.approx(30, abs=2)


def test_a_tenants_own_priorities_do_not_outrun_others() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("later", "one", 10)
    queue.push("urgent", "one", 10, priority=-5)
    queue.push("theirs", "two", 10)
    assert drained(queue) == ["urgent", "theirs", "later"]


def test_who_did_not_wait_saves_nothing_up() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(50):
        queue.push(f"busy {number}", "busy", 10)
        queue.pop()
    for number in range(10):
        queue.push(f"busy again {number}", "busy", 10)
        queue.push(f"new {number}", "new", 10)
    first = [queue.pop() or "" for _ in range(10)]
    assert sum(item.startswith("busy") for item in first) >= 4


def test_only_those_that_are_allowed() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("a", "one", 1)
    queue.push("b", "two", 1)
    assert queue.pop(lambda tenant: tenant == "two") == "b"
    assert queue.pop(lambda tenant: tenant == "two") is None
    assert queue.pop() == "a"


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_doubled_or_left_behind(seed: int) -> None:
    rng, queue = Random(seed), FairQueue[int]()
    waiting: dict[int, str] = {}
    for item in range(400):
        match rng.choice(["push", "push", "pop", "remove"]):
            case "push":
                waiting[item] = rng.choice("abc")
                queue.push(item, waiting[item], rng.randint(1, 50), rng.choice([0, 0, 1]))
            case "pop":
                popped = queue.pop()
                assert (popped is None) == (not waiting)
                if popped is not None:
                    del waiting[popped]
            case _:
                gone = rng.randrange(item + 1)
                assert queue.remove(gone) == (waiting.pop(gone, None) is not None)
        assert len(queue) == len(waiting)
    assert sorted(drained(queue)) == sorted(waiting)
