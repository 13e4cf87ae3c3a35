"""Membership as a table: what happens, and which changes are told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from xpod_policy.membership import Change, Member, Membership, State

Event = Callable[[Membership], list[Change] | None]
Told = list[tuple[State | None, State, str, str]]


def member(
    incarnation: str, state: State = "up", now: float = 0.0, name: str = "d1", kind: str = "decode"
) -> Member:
    return Member(name, kind, incarnation, 1, "host", "print", state, now, now, {})


def hello(incarnation: str, state: State = "up", now: float = 0.0) -> Event:
    return lambda table: table.hello(member(incarnation, state, now))


def beat(incarnation: str, now: float, state: State = "up") -> Event:
    return lambda table: table.heartbeat("d1", incarnation, state, {"beat": now}, now)


def down(incarnation: str, now: float, reason: str = "bye") -> Event:
    return lambda table: table.down("d1", incarnation, reason, now)


def tick(now: float) -> Event:
    return lambda table: table.tick(now)


def told(changes: list[Change] | None) -> Told | None:
    if changes is None:
        return None
    return [(c.was, c.member.state, c.member.incarnation, c.reason) for c in changes]


STORIES: dict[str, list[tuple[Event, Told | None]]] = {
    "join": [
        (hello("i1", "starting"), [(None, "starting", "i1", "hello")]),
        (hello("i1", "up", 1.0), [("starting", "up", "i1", "hello")]),
        (hello("i1", "up", 2.0), []),
        (beat("i1", 3.0), []),
    ],
    "a stranger is asked for its hello": [
        (beat("i1", 0.0), None),
        (hello("i1"), [(None, "up", "i1", "hello")]),
        (beat("i2", 1.0), None),
    ],
    "suspect, then back": [
        (hello("i1"), [(None, "up", "i1", "hello")]),
        (tick(2.5), []),
        (tick(2.6), [("up", "suspect", "i1", "silent for 2.6 s")]),
        (tick(3.0), []),
        (beat("i1", 3.1), [("suspect", "up", "i1", "heartbeat")]),
        (tick(5.5), []),
        (tick(5.7), [("up", "suspect", "i1", "silent for 2.6 s")]),
    ],
    "suspect, then down, then back after all": [
        (hello("i1"), [(None, "up", "i1", "hello")]),
        (tick(3.0), [("up", "suspect", "i1", "silent for 3.0 s")]),
        (tick(6.0), []),
        (tick(6.5), [("suspect", "down", "i1", "silent for 6.5 s")]),
        (tick(7.0), []),
        (beat("i1", 7.1), [("down", "up", "i1", "heartbeat")]),
    ],
    "down at once after a long gap between ticks": [
        (hello("i1"), [(None, "up", "i1", "hello")]),
        (tick(100.0), [("up", "down", "i1", "silent for 100.0 s")]),
    ],
    "a good-bye is told once": [
        (hello("i1"), [(None, "up", "i1", "hello")]),
        (down("i1", 1.0), [("up", "down", "i1", "bye")]),
        (down("i1", 1.1, "disconnected"), []),
        (tick(10.0), []),
    ],
    "a good-bye of nobody": [(down("i1", 0.0), [])],
    "a process returns after its good-bye": [
        (hello("i1"), [(None, "up", "i1", "hello")]),
        (down("i1", 1.0), [("up", "down", "i1", "bye")]),
        (hello("i2", "up", 2.0), [("down", "up", "i2", "hello")]),
        (beat("i1", 2.1), None),
    ],
    "a late good-bye of the old incarnation": [
        (hello("i1"), [(None, "up", "i1", "hello")]),
        (hello("i2", "up", 1.0), [("up", "up", "i2", "hello")]),
        (down("i1", 1.1), []),
        (beat("i2", 1.2), []),
    ],
    "starting and draining are not suspected, but die": [
        (hello("i1", "starting"), [(None, "starting", "i1", "hello")]),
        (tick(5.0), []),
        (beat("i1", 5.0, "draining"), [("starting", "draining", "i1", "heartbeat")]),
        (tick(10.9), []),
        (tick(11.1), [("draining", "down", "i1", "silent for 6.1 s")]),
    ],
    "forgotten a minute after it went down": [
        (hello("i1"), [(None, "up", "i1", "hello")]),
        (down("i1", 5.0), [("up", "down", "i1", "bye")]),
        (tick(65.0), []),
        (beat("i1", 65.0, "down"), []),
        (tick(65.1), []),
        (beat("i1", 65.2), None),
        (hello("i1", "up", 66.0), [(None, "up", "i1", "hello")]),
    ],
}


@pytest.mark.parametrize("story", STORIES.values(), ids=list(STORIES))
def test_stories(story: list[tuple[Event, Told | None]]) -> None:
    table = Membership()
    for number, (event, expected) in enumerate(story):
        assert told(event(table)) == expected, f"event {number}"


@pytest.mark.parametrize(
    ("state", "usable", "alive"),
    [
        ("starting", False, True),
        ("up", True, True),
        ("suspect", False, True),
        ("draining", False, True),
        ("down", False, False),
    ],
)
def test_states(state: State, usable: bool, alive: bool) -> None:
    table = Membership()
    table.hello(member("i1", state))
    assert table.usable("decode") == ([member("i1", state)] if usable else [])
    assert table.members["d1"].alive == alive


def test_of_kind_is_sorted_by_name() -> None:
    table = Membership()
    for name, kind in [("b", "decode"), ("a", "decode"), ("c", "prefill")]:
        table.hello(member("i", "up", name=name, kind=kind))
    assert [found.name for found in table.of_kind("decode")] == ["a", "b"]
    assert [found.name for found in table.usable("prefill")] == ["c"]
    assert table.of_kind("router") == []


def test_load_and_time_of_the_last_change() -> None:
    table = Membership()
    table.hello(member("i1", "up", 1.0))
    table.heartbeat("d1", "i1", "up", {"slots_free": 3}, 2.0)
    assert (table.members["d1"].since, table.members["d1"].heard) == (1.0, 2.0)
    table.hello(member("i1", "up", 3.0))  # the answer to a roll call says nothing about load
    assert table.members["d1"].load == {"slots_free": 3}
    assert (table.members["d1"].since, table.members["d1"].heard) == (1.0, 3.0)
    table.heartbeat("d1", "i1", "draining", {}, 4.0)
    assert (table.members["d1"].since, table.members["d1"].load) == (4.0, {})
    table.hello(member("i2", "up", 5.0))
    assert (table.members["d1"].since, table.members["d1"].load) == (5.0, {})


def test_another_process_under_the_same_name_is_reborn() -> None:
    table = Membership()
    changes = [
        *table.hello(member("one")),
        *table.hello(member("one")),
        *table.hello(member("two")),
        *table.down("d1", "two", "bye", 1.0),
    ]
    assert [(change.was, change.member.state, change.reborn) for change in changes] == [
        (None, "up", False),
        ("up", "up", True),
        ("up", "down", False),
    ]


def known(*, interval: float = 1.0) -> Membership:
    table = Membership(interval=interval)
    table.hello(member("i1"))
    return table


def test_a_member_has_ended_when_both_of_its_connections_have() -> None:
    table = known()
    assert table.departed("d1.line") is None
    assert table.departed("d1") is None
    assert table.departed("d1.control") == table.members["d1"], "to be asked"
    assert table.departed("d1.control") is None
    assert table.departed("nobody") is None
    table.down("d1", "i1", "why", 1.2)
    assert table.departed("d1") is None
    assert table.departed("d1.control") is None


def test_a_heartbeat_between_two_ended_connections_means_that_it_reconnected() -> None:
    table = known()
    table.departed("d1")
    table.heartbeat("d1", "i1", "up", {}, 1.1)
    assert table.departed("d1.control") is None


def test_who_is_late_is_asked_and_two_unanswered_questions_are_a_verdict() -> None:
    table = known()
    assert table.doubtful(1.09) == []
    assert [each.name for each in table.doubtful(1.11)] == ["d1"]
    assert told(table.unanswered("d1", "i1", 1.8)) == [("up", "suspect", "i1", "does not answer")]
    assert table.unanswered("d1", "another", 1.9) == []
    verdict = told(table.unanswered("d1", "i1", 2.1))
    assert verdict == [("suspect", "down", "i1", "silent for 2.1 s and does not answer")]
    assert table.doubtful(9.0) == []
    assert told(table.heartbeat("d1", "i1", "up", {}, 9.0)) == [("down", "up", "i1", "heartbeat")]


@pytest.mark.parametrize(
    ("state", "silence", "asked"),
    [
        ("up", 0.2, False),
        ("up", 0.3, True),
        ("suspect", 0.3, True),
        ("starting", 5.0, False),
        ("down", 5.0, False),
    ],
)
def test_who_is_waited_for_is_asked_before_it_is_late(state: State, silence: float, asked: bool) -> None:
    table = Membership()
    table.hello(member("i1", state))
    assert table.doubtful(0.3) == []
    assert (table.waited_for("d1", silence) is not None) == asked
    assert table.waited_for("nobody", silence) is None


def test_it_is_unsure_from_an_unanswered_question_to_the_next_word_or_the_verdict() -> None:
    table = known()
    assert not table.unsure("d1")
    for ended in (
        lambda: table.answered("d1", "i1", 1.0),
        lambda: table.heartbeat("d1", "i1", "up", {}, 1.1),
        lambda: table.reconnected(1.2),
        lambda: table.unanswered("d1", "i1", 1.3),
    ):
        table.unanswered("d1", "i1", 0.9)
        assert table.unsure("d1")
        ended()
        assert not table.unsure("d1")


def test_an_answer_ends_all_doubt() -> None:
    table = known()
    table.unanswered("d1", "i1", 1.8)
    assert told(table.answered("d1", "i1", 2.0)) == [("suspect", "up", "i1", "answered")]
    assert table.doubtful(3.0) == []
    assert told(table.unanswered("d1", "i1", 3.8)) == [("up", "suspect", "i1", "does not answer")]


def test_where_heartbeats_come_late_all_patience_grows() -> None:
    table, before = known(), known().patience
    for beat_at in range(1, 100):
        table.heartbeat("d1", "i1", "up", {}, 1.5 * beat_at)  # half an interval late, each
    assert table.patience > before + 1.0
    now = 1.5 * 99
    assert table.doubtful(now + 1.5) == []
    assert table.doubtful(now + 6.0) != []


def test_who_starts_is_not_asked_and_a_reconnect_forgives_all_silence() -> None:
    table = Membership(interval=1.0)
    table.hello(member("i1", "starting"))
    assert table.doubtful(5.0) == []
    table.hello(member("i1", "up", 5.0))
    table.unanswered("d1", "i1", 8.0)
    table.reconnected(9.0)
    assert table.doubtful(10.0) == []
    assert table.unanswered("d1", "i1", 12.0) == []


def test_who_says_something_rarely_by_agreement_is_not_silent() -> None:
    table = Membership(interval=3.0)
    table.hello(member("i1", "up", 0.0))
    assert table.tick(7.0) == []
    assert told(table.tick(7.6)) == [("up", "suspect", "i1", "silent for 7.6 s")]
    assert told(table.tick(18.1)) == [("suspect", "down", "i1", "silent for 18.1 s")]


def test_the_next_look_is_when_somebody_may_be_late() -> None:
    table = Membership(interval=1.0)
    assert table.next_look(0.0) == 1.0
    table.hello(member("i1", "up", 0.0))
    assert table.next_look(0.1) == 1.0
    assert table.next_look(0.9) == pytest.approx(0.2)
    assert table.doubtful(0.9 + table.next_look(0.9) + 1e-6) != []
    assert table.next_look(1.5) == 0.0
