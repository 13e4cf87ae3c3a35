"""What becomes of expert calls: a table of what happens to them, and what is to be done."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpod_policy import expert_calls
from xpod_policy.expert_calls import Call, CallBook, Cause, Homeless, Next, Question
from xpod_policy.hedging import FIRST_SECONDS
from xpod_policy.holdings import ShardRows

CHOSEN = np.array([[0, 1], [2, 3]])
FIRST, SECOND = 1, 2
TIMEOUT = 10.0


def question() -> Question:
    return Question(0, CHOSEN)


def part(shard: str, *places: int) -> ShardRows:
    return ShardRows.of(shard, CHOSEN, np.array(places))


def asked(*shards: str, hedging: bool = True) -> tuple[CallBook[Question], Question, list[Call[Question]]]:
    """A book in which each shard was asked for everything, at 0, by tickets from 1 on."""
    book, wanted = CallBook[Question](TIMEOUT, hedging=hedging), question()
    for ticket, shard in enumerate(shards, 1):
        book.posted(ticket, wanted, part(shard, 0, 1, 2, 3), 0.0)
    return book, wanted, list(book.under_way.values())


def hedged() -> tuple[CallBook[Question], Question]:
    """The first was asked at 0, and the second for the same when the first was late."""
    book, wanted, (first,) = asked("first")
    ((ticket, late),) = book.due(FIRST_SECONDS)
    assert late is first
    assert book.late(first, FIRST_SECONDS, others=True) is Next.HEDGE
    book.posted(SECOND, wanted, part("second", 0, 1, 2, 3), FIRST_SECONDS)
    book.hedged(ticket, first, [SECOND])
    return book, wanted


def test_an_answer_counts_once() -> None:
    book, wanted, (call,) = asked("first")
    assert wanted.calls == 1
    assert book.arrived(FIRST) is call
    book.answered(FIRST, call, 0.01)
    assert wanted.calls == 0
    assert book.arrived(FIRST) is None
    assert book.next_at == math.inf


def test_a_call_names_the_pairs_that_it_asks_for() -> None:
    call = Call(question(), part("first", 1, 2), 0.0, 1.0, 1.0)
    assert call.pairs().tolist() == [[-1, 1], [2, -1]]


def test_what_is_late_is_due_and_not_before() -> None:
    book, _, (call,) = asked("first")
    assert book.next_at == FIRST_SECONDS
    assert book.due(FIRST_SECONDS - 0.01) == []
    assert book.due(FIRST_SECONDS) == [(FIRST, call)]


def test_of_a_call_and_its_hedge_the_first_answer_counts() -> None:
    book, wanted = hedged()
    assert wanted.calls == 2
    call = book.arrived(SECOND)
    assert call is not None
    book.answered(SECOND, call, 1.1)
    assert wanted.calls == 0, "nobody waits for the other"
    assert book.slow == {"first"}
    assert book.arrived(FIRST) is None
    assert book.slow == set(), "it answers again"


def test_where_the_call_answers_before_its_hedge_nobody_is_slow() -> None:
    book, wanted = hedged()
    call = book.arrived(FIRST)
    assert call is not None
    book.answered(FIRST, call, 1.1)
    assert (wanted.calls, book.slow) == (0, set())
    assert book.arrived(SECOND) is None


def test_of_two_hedges_both_are_needed() -> None:
    book, wanted, (first,) = asked("first")
    for ticket, places in ((SECOND, (0, 1)), (3, (2, 3))):
        book.posted(ticket, wanted, part(f"other-{ticket}", *places), 1.0)
    book.hedged(FIRST, first, [SECOND, 3])
    for ticket, calls, slow in ((SECOND, 2, set()), (3, 0, {"first"})):
        call = book.arrived(ticket)
        assert call is not None
        book.answered(ticket, call, 1.1)
        assert (wanted.calls, book.slow) == (calls, slow)


@pytest.mark.parametrize(
    ("cause", "then", "avoided"),
    [
        (Cause.REFUSED, Next.ELSEWHERE, {"first"}),
        (Cause.LOST, Next.ELSEWHERE, {"first"}),
        (Cause.CUT_OFF, Next.LATER, set()),
        (Cause.TOO_LARGE, Next.SMALLER, set()),
    ],
)
def test_what_failed_is_asked_for_again(cause: Cause, then: Next, avoided: set[str]) -> None:
    book, wanted, (call,) = asked("first")
    assert book.arrived(FIRST) is call
    assert book.failed(call, cause, 0.5) is then
    assert wanted.avoid == avoided
    assert wanted.calls == 0


@pytest.mark.parametrize("cause", list(Cause))
def test_a_call_that_fails_leaves_it_to_its_hedge(cause: Cause) -> None:
    book, wanted = hedged()
    call = book.arrived(FIRST)
    assert call is not None
    assert book.failed(call, cause, 1.1) is Next.WAIT
    assert wanted.calls == 1
    late = book.under_way[SECOND]
    assert (late.hedged, late.hedge_at) == (0, call.hedge_at), "it is a call like others now"
    assert book.due(late.hedge_at - 0.1) == []
    assert book.due(late.hedge_at) == [(SECOND, late)]


@pytest.mark.parametrize("cause", list(Cause))
def test_a_hedge_that_fails_leaves_it_to_the_call(cause: Cause) -> None:
    book, wanted = hedged()
    call = book.arrived(SECOND)
    assert call is not None
    assert book.failed(call, cause, 1.1) is Next.WAIT
    assert wanted.calls == 1
    first = book.under_way[FIRST]
    assert not first.hedges
    assert not first.late


def test_one_of_two_hedges_that_fails_takes_the_other_with_it() -> None:
    """The call goes on without any: a part of its pairs is no use."""
    book, wanted, (first,) = asked("first")
    for ticket, places in ((SECOND, (0, 1)), (3, (2, 3))):
        book.posted(ticket, wanted, part(f"other-{ticket}", *places), 1.0)
    book.hedged(FIRST, first, [SECOND, 3])
    call = book.arrived(SECOND)
    assert call is not None
    assert book.failed(call, Cause.LOST, 1.1) is Next.WAIT
    assert book.under_way[3].late
    assert wanted.calls == 1


def test_where_neither_a_call_nor_its_hedge_is_answered_it_is_made_anew() -> None:
    book, wanted = hedged()
    first = book.under_way[FIRST]
    ((_, due),) = book.due(first.hedge_at)
    assert due is first
    assert book.late(first, first.hedge_at, others=True) is Next.ANEW
    assert wanted.calls == 0
    assert book.arrived(FIRST) is None
    assert book.arrived(SECOND) is None


def test_who_alone_serves_some_pair_is_asked_anew_and_not_too_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expert_calls, "ALONE_SECONDS", 3.0)
    book, wanted, (call,) = asked("first")
    assert book.due(1.0) == [(FIRST, call)]
    assert book.late(call, 1.0, others=False) is Next.WAIT
    assert book.next_at == 3.0, "not only after a multiple of what was waited for"
    assert book.late(call, 3.0, others=False) is Next.ANEW
    assert wanted.calls == 0


def test_patience_grows_with_each_try_and_where_nobody_else_can_be_asked() -> None:
    book, wanted, _ = asked()
    for ticket, (tries, spare) in enumerate([(0, True), (1, True), (2, True), (0, False)], 1):
        book.posted(ticket, wanted, part("first", 0), 0.0, tries, spare=spare)
    grows = expert_calls.PATIENCE_GROWS
    assert [call.hedge_at / FIRST_SECONDS for call in book.under_way.values()] == [1, grows, grows**2, grows]


def test_behind_a_lost_connection_there_is_little_patience() -> None:
    book, wanted, (call,) = asked("first")
    book.arrived(FIRST)
    book.failed(call, Cause.CUT_OFF, 5.0)
    for ticket, now in ((SECOND, 5.5), (3, 6.5)):
        book.posted(ticket, wanted, part("first", 0), now)
    assert book.under_way[SECOND].hedge_at == 5.5 + expert_calls.CUT_OFF_PATIENCE
    assert book.under_way[3].hedge_at == 6.5 + FIRST_SECONDS


def test_nobody_waits_beyond_the_deadline() -> None:
    book, _, _ = asked("first", hedging=False)
    assert book.next_at == TIMEOUT
    assert book.expired(TIMEOUT - 0.01) == []
    assert book.expired(TIMEOUT) == [FIRST]


def test_the_calls_of_a_lost_shard_fail_and_it_is_not_slow_when_it_is_back() -> None:
    book, _, _ = asked("first", "second", "first")
    book.slow.add("first")
    assert book.lost("first") == [1, 3]
    assert book.slow == set()


def test_nobody_waits_for_what_was_abandoned() -> None:
    book, abandoned = hedged()
    other = question()
    book.posted(3, other, part("third", 0, 1, 2, 3), FIRST_SECONDS)
    assert book.forget([abandoned]) == [FIRST, SECOND]
    assert book.arrived(FIRST) is None
    assert list(book.under_way) == [3]
    assert book.forget([other]) == [3]
    assert book.next_at == math.inf


def test_pairs_that_nobody_serves_are_asked_for_when_something_changed_or_time_passed() -> None:
    waiting = Homeless(version=4)
    waiting.put_off(np.array([0, -1]), 1.0, 0.25, 30.0)
    assert waiting.take(1.1, 4) is None
    waiting.put_off(np.array([-1, 3]), 1.1, 0.25, 30.0)
    assert waiting.give_up == 31.0, "from the first time on"
    wanted = waiting.take(1.1, 5)
    assert wanted is not None
    assert wanted.tolist() == [0, 3]
    assert waiting.wanted is None
    waiting.put_off(wanted, 2.0, 0.25, 30.0)
    assert waiting.take(2.25, 4) is not None
