"""A member's numbered events: whatever happens to them on the way, each change counts once."""

from __future__ import annotations

import random

import pytest

from xpod_policy.block_feed import MOST_EARLY, BlockEvent, BlockFeed, Verdict

Step = tuple[str, int]
"""An event or a snapshot, and its number."""


def event(sequence: int, incarnation: str = "i") -> BlockEvent:
    return BlockEvent(incarnation, sequence, b"", b"")


def fed(*steps: Step) -> list[tuple[bool, list[int], bool]]:
    """For each step: is the snapshot taken in, which events, is a snapshot asked for."""
    feed = BlockFeed()
    said = []
    for what, number in steps:
        verdict = feed.event(event(number)) if what == "event" else feed.snapshot("i", number)
        said.append((verdict.replace, [each.sequence for each in verdict.events], verdict.ask))
    return said


@pytest.mark.parametrize(
    ("steps", "last"),
    [
        ([("event", 1)], (False, [], True)),
        ([("snapshot", 0)], (True, [], False)),
        ([("snapshot", 0), ("event", 1)], (False, [1], False)),
        ([("snapshot", 3), ("event", 3)], (False, [], False)),
        ([("snapshot", 3), ("event", 2)], (False, [], False)),
        ([("snapshot", 3), ("event", 5)], (False, [], True)),
        ([("snapshot", 3), ("event", 5), ("event", 4)], (False, [4, 5], False)),
        ([("snapshot", 3), ("event", 5), ("snapshot", 4)], (True, [5], False)),
        ([("snapshot", 3), ("event", 5), ("snapshot", 5)], (True, [], False)),
        ([("snapshot", 3), ("event", 5), ("snapshot", 3)], (False, [], True)),
        ([("event", 5), ("event", 6), ("event", 8), ("snapshot", 4)], (True, [5, 6], True)),
        ([("event", 5), ("event", 5), ("snapshot", 4)], (True, [5], False)),
        ([("snapshot", 5), ("snapshot", 4)], (False, [], False)),
        ([("snapshot", 5), ("snapshot", 5)], (False, [], False)),
    ],
)
def test_what_is_done_with_the_last(steps: list[Step], last: tuple[bool, list[int], bool]) -> None:
    assert fed(*steps)[-1] == last


def test_a_snapshot_older_than_what_was_heard_before_it_was_asked_for() -> None:
    """Asking again would give the same, over and over."""
    feed = BlockFeed()
    feed.event(event(7))
    feed.asks()
    assert feed.snapshot("i", 5) == Verdict(replace=True)
    assert feed.event(event(9)).ask, "until something else is said"


def test_another_process_begins_again() -> None:
    feed = BlockFeed()
    feed.snapshot("i", 9)
    assert feed.event(event(1, "j")) == Verdict(ask=True)
    assert feed.snapshot("j", 0) == Verdict([event(1, "j")], replace=True)
    assert feed.event(event(10, "i")).ask, "a late word of the old one: who is it now?"
    assert feed.snapshot("j", 1).replace


def test_a_loss_that_only_heartbeats_show() -> None:
    feed = BlockFeed()
    assert not feed.behind(4), "nothing is known at all"
    feed.snapshot("i", 3)
    assert not feed.behind(4), "its event may be on its way"
    feed.event(event(4))
    assert [feed.behind(sequence) for sequence in (4, 5, 5, 5)] == [False, False, True, True]
    feed.snapshot("i", 5)
    assert not feed.behind(5)


def test_forgetting_is_knowing_nothing() -> None:
    feed = BlockFeed()
    feed.snapshot("i", 9)
    feed.forget()
    assert (feed.incarnation, feed.event(event(10))) == ("", Verdict(ask=True))


def test_events_beyond_the_bound_are_asked_for() -> None:
    feed = BlockFeed()
    for number in range(2, MOST_EARLY + 4):
        feed.event(event(number))
    verdict = feed.snapshot("i", 1)
    assert (len(verdict.events), verdict.ask) == (MOST_EARLY, True)
    assert not feed.snapshot("i", MOST_EARLY + 3).ask


@pytest.mark.parametrize("seed", range(50))
def test_in_the_end_all_is_known(seed: int) -> None:
    """Events that are lost, doubled and overtaken, and snapshots that come late."""
    chance = random.Random(seed)
    feed, truth, known = BlockFeed(), 0, 0
    way: list[Step] = []

    def take(verdict: Verdict, snapshot: int) -> None:
        nonlocal known
        known = snapshot if verdict.replace else known
        for each in verdict.events:
            assert each.sequence == known + 1
            known = each.sequence
        if verdict.ask:
            feed.asks()
            way.append(("snapshot", truth))

    def arrive(what: str, number: int) -> None:
        verdict = feed.event(event(number)) if what == "event" else feed.snapshot("i", number)
        take(verdict, number)

    for _ in range(200):
        truth += 1
        way += [("event", truth)] * chance.choice([0, 1, 1, 1, 2])
        while len(way) > chance.randrange(6):
            arrive(*way.pop(chance.randrange(len(way))))
    truth += 1
    way.append(("event", truth))
    while way:
        arrive(*way.pop())
    assert known == truth
