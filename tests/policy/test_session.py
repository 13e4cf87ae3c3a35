"""The life of a generation as a table: events and the instructions they give."""

from __future__ import annotations

import math

import pytest

from policy.session_events import (
    LAST,
    T0,
    T1,
    T2,
    T3,
    TRUTH,
    WRONG,
    Story,
    assigned,
    failed,
    lost,
    prefilled,
    token,
    unplaced,
)
from xpod_policy.session import (
    Ask,
    Diverged,
    Emit,
    Fail,
    Finish,
    Release,
    Session,
    Start,
    Token,
)

OPEN: Story = [(Session.open, [Start("prefill", 0)])]
PREFILL: Story = [*OPEN, (assigned(0, "p1"), [])]
DECODE: Story = [*PREFILL, (prefilled(0), [Emit(T0), Start("decode", 1)]), (assigned(1, "d1"), [])]
FOLLOW: Story = [(lambda session: session.follow("r1"), [Ask("r1", 0)])]
GAVE_UP = Fail("worker_lost", "gave up after 5 recoveries in vain: silence")
NO_WORKER = Fail("no_worker", "nobody has room")

STORIES: dict[str, Story] = {
    "happy": [
        *DECODE,
        (token(T1), [Emit(T1)]),
        (token(T2), [Emit(T2)]),
        (token(T3), [Emit(T3)]),
        (token(LAST), [Emit(LAST), Finish()]),
        (token(LAST), []),
    ],
    "one token is all": [
        *PREFILL,
        (prefilled(0, Token(0, 7, 0.0, finish="stop")), [Emit(Token(0, 7, 0.0, finish="stop")), Finish()]),
    ],
    "token 0 before prefill is done": [
        *PREFILL,
        (token(T0), [Emit(T0)]),
        (prefilled(0), [Start("decode", 1)]),
        (token(T1), [Emit(T1)]),
    ],
    "prefill is done before it was known to be assigned": [
        *OPEN,
        (prefilled(0), [Emit(T0), Start("decode", 1)]),
        (assigned(0, "p1"), [Release("p1", 0)]),
        (assigned(1, "d1"), []),
    ],
    "tokens out of order": [
        *DECODE,
        (token(T3), [Ask("d1", 1)]),
        (token(T2), [Ask("d1", 1)]),
        (token(T1), [Emit(T1), Emit(T2), Emit(T3)]),
        (token(LAST), [Emit(LAST), Finish()]),
    ],
    "a gap behind a gap": [*DECODE, (token(T3), [Ask("d1", 1)]), (token(T1), [Emit(T1), Ask("d1", 2)])],
    "the last token comes first": [
        *DECODE,
        (token(LAST), [Ask("d1", 1)]),
        (token(T1), [Emit(T1), Ask("d1", 2)]),
        (token(T3), [Ask("d1", 2)]),
        (token(T2), [Emit(T2), Emit(T3), Emit(LAST), Finish()]),
    ],
    "nobody to ask yet": [
        *DECODE,
        (lost("d1"), [Start("decode", 2)]),
        (token(T2), []),
        (token(T1), [Emit(T1), Emit(T2)]),
    ],
    "equal duplicates": [
        *DECODE,
        (token(T0), []),
        (token(T1), [Emit(T1)]),
        (token(T1), []),
        (token(T3), [Ask("d1", 2)]),
        (token(T3), []),
    ],
    "a duplicate that differs": [
        *DECODE,
        (token(T1), [Emit(T1)]),
        (token(WRONG), [Diverged(1, T1, WRONG)]),
        (token(T1), []),
    ],
    "a waiting duplicate that differs": [
        *DECODE,
        (token(T2), [Ask("d1", 1)]),
        (token(Token(2, 0, 0.0)), [Diverged(2, T2, Token(2, 0, 0.0))]),
    ],
    "token 0 differs from prefill's": [
        *PREFILL,
        (token(T0), [Emit(T0)]),
        (prefilled(0, Token(0, 1, 0.0)), [Diverged(0, T0, Token(0, 1, 0.0)), Start("decode", 1)]),
    ],
    "a negative index": [*DECODE, (token(Token(-1, 1, 0.0)), [])],
    "a negative index before any token": [*PREFILL, (token(Token(-1, 1, 0.0)), [])],
    "worker lost in prefill": [
        *PREFILL,
        (lost("p1"), [Start("prefill", 1)]),
        (lost("p1"), []),
        (prefilled(0), []),
        (assigned(1, "p2"), []),
        (prefilled(1), [Emit(T0), Start("decode", 2)]),
    ],
    "worker lost in decode": [
        *DECODE,
        (token(T1), [Emit(T1)]),
        (lost("d1"), [Start("decode", 2)]),
        (assigned(2, "d2"), []),
        (token(T1), []),
        (token(T2), [Emit(T2)]),
    ],
    "another session's worker lost": [*DECODE, (lost("p1"), []), (lost("d9"), [])],
    "a worker that is not known yet lost": [*OPEN, (lost("p1"), [])],
    "late tokens of the lost worker": [*DECODE, (lost("d1"), [Start("decode", 2)]), (token(T1), [Emit(T1)])],
    "recoveries without a token are bounded": [
        *DECODE,
        *(
            step
            for n in range(1, 6)
            for step in (
                (lost(f"d{n}"), [Start("decode", n + 1)]),
                (assigned(n + 1, f"d{n + 1}"), []),
            )
        ),
        (lost("d6"), [Release("d6", 6), GAVE_UP]),
        (lost("d6"), []),
    ],
    "a token between them makes recoveries worth while": [
        *DECODE,
        *(
            step
            for n in range(1, 4)
            for step in (
                (lost(f"d{n}"), [Start("decode", n + 1)]),
                (assigned(n + 1, f"d{n + 1}"), []),
                (token(TRUTH[n]), [Emit(TRUTH[n])]),
            )
        ),
        *(
            step
            for n in range(4, 9)
            for step in (
                (lost(f"d{n}"), [Start("decode", n + 1)]),
                (assigned(n + 1, f"d{n + 1}"), []),
            )
        ),
        (token(LAST), [Emit(LAST), Finish()]),
    ],
    "stale epochs": [
        *DECODE,
        (prefilled(0), []),
        (assigned(0, "p2"), [Release("p2", 0)]),
        (unplaced(0), []),
        (failed(0, "internal"), []),
        (token(T1), [Emit(T1)]),
    ],
    "cancelled while a worker is sought": [
        *OPEN,
        (Session.cancel, []),
        (assigned(0, "p1"), [Release("p1", 0)]),
    ],
    "cancelled, then no worker found": [*OPEN, (Session.cancel, []), (unplaced(0), [])],
    "cancelled in prefill": [
        *PREFILL,
        (Session.cancel, [Release("p1", 0)]),
        (prefilled(0), []),
        (token(T0), []),
        (Session.cancel, []),
    ],
    "cancelled in decode": [
        *DECODE,
        (Session.cancel, [Release("d1", 1)]),
        (token(T1), []),
        (lost("d1"), []),
        (Session.silent, []),
    ],
    "cancelled between prefill and decode": [
        *PREFILL,
        (prefilled(0), [Emit(T0), Start("decode", 1)]),
        (Session.cancel, []),
        (assigned(1, "d1"), [Release("d1", 1)]),
    ],
    "cancelled before it began": [(Session.cancel, []), (token(T0), [])],
    "cancelled when done": [*PREFILL, (unplaced(0), [Release("p1", 0), NO_WORKER]), (Session.cancel, [])],
    "nobody for prefill": [
        *OPEN,
        (unplaced(0), [NO_WORKER]),
        (assigned(0, "p1"), [Release("p1", 0)]),
        (unplaced(0), []),
    ],
    "nobody for decode": [
        *PREFILL,
        (prefilled(0), [Emit(T0), Start("decode", 1)]),
        (unplaced(1), [NO_WORKER]),
    ],
    "a zombie finishes what nobody takes over": [
        *DECODE,
        (lost("d1"), [Start("decode", 2)]),
        *((token(t), [Emit(t)]) for t in (T1, T2, T3)),
        (token(LAST), [Emit(LAST), Finish()]),
        (unplaced(2), []),
        (assigned(2, "d2"), [Release("d2", 2)]),
    ],
    "a worker drains": [*PREFILL, (failed(0, "draining"), [Start("prefill", 1)])],
    "a decode worker drains": [*DECODE, (failed(1, "draining", "d1"), [Start("decode", 2)])],
    "a worker fails": [
        *PREFILL,
        (failed(0, "too_long"), [Release("p1", 0), Fail("too_long", "why")]),
        (failed(0, "too_long"), []),
    ],
    "draining too often": [
        *OPEN,
        *((failed(epoch, "draining"), [Start("prefill", epoch + 1)]) for epoch in range(5)),
        (failed(5, "draining"), [Fail("worker_lost", "gave up after 5 recoveries in vain: why")]),
    ],
    "silence": [
        *DECODE,
        (Session.silent, [Ask("d1", 1)]),
        (token(T1), [Emit(T1)]),
        (Session.silent, [Ask("d1", 2)]),
    ],
    "silence with nobody to ask": [*OPEN, (Session.silent, [])],
    "followed to its end": [
        *FOLLOW,
        (token(T1), [Ask("r1", 0)]),
        (token(T0), [Emit(T0), Emit(T1)]),
        (prefilled(0), []),
        (token(T2), [Emit(T2)]),
        (token(T3), [Emit(T3)]),
        (token(LAST), [Emit(LAST), Finish()]),
    ],
    "the router that was followed is lost": [
        *FOLLOW,
        (token(T0), [Emit(T0)]),
        (lost("r1"), [Start("decode", 1)]),
        (assigned(1, "d1"), []),
        (token(T1), [Emit(T1)]),
    ],
    "it is lost before it said anything": [
        *FOLLOW,
        (lost("r1"), [Start("prefill", 1)]),
        (assigned(1, "p1"), []),
        (prefilled(1), [Emit(T0), Start("decode", 2)]),
    ],
    "who only follows cancels nothing": [*FOLLOW, (token(T0), [Emit(T0)]), (Session.cancel, [])],
}


@pytest.mark.parametrize("story", STORIES.values(), ids=list(STORIES))
def test_stories(story: Story) -> None:
    session = Session("s")
    for number, (event, expected) in enumerate(story):
        assert event(session) == expected, f"event {number}"


def test_a_session_goes_on_behind_what_is_known() -> None:
    session = Session("s")
    known = [Token(0, 7, None, cached=3), Token(1, 8, -0.5)]
    assert session.open(known, 4) == [*map(Emit, known), Start("decode", 4)]
    session.assigned(4, "d1")
    assert session.token(Token(2, 9, -1.0, finish="stop")) == [Emit(session.tokens[2]), Finish()]
    assert session.cached == 3


def test_what_is_known_may_be_all() -> None:
    known = [Token(0, 7, -0.5, finish="stop")]
    assert Session("s").open(known, 4) == [Emit(known[0]), Finish()]


def test_a_token_without_a_logprob_takes_the_one_that_comes() -> None:
    session = Session("s")
    session.open([Token(0, 7, None)], 1)
    late = Token(0, 7, -0.25)
    assert session.token(late) == []
    assert session.tokens == [late]
    assert session.token(Token(0, 7, -0.5)) == [Diverged(0, late, Token(0, 7, -0.5))]
    other = Session("s")
    other.open([Token(0, 7, None)], 1)
    assert other.token(Token(0, 8, -0.25)) == [Diverged(0, Token(0, 7, None), Token(0, 8, -0.25))]


def test_cached_tokens_are_remembered() -> None:
    session = Session("s")
    for event, _ in DECODE:
        event(session)
    assert (session.cached, session.recoveries, session.tokens) == (32, 0, [T0])


def test_a_session_opens_once() -> None:
    session = Session("s")
    session.open()
    with pytest.raises(AssertionError):
        session.open()


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (Token(1, 5, 0.0), True),
        (Token(1, 5, -0.0), False),
        (Token(1, 5, 5e-324), False),
        (Token(1, 6, 0.0), False),
        (Token(1, 5, 0.0, finish="stop"), False),
        (Token(1, 5, 0.0, top=((5, 0.0),)), True),
        (Token(1, 5, None), True),
        (Token(1, 6, None), False),
    ],
)
def test_same_bits(other: Token, same: bool) -> None:
    assert Token(1, 5, 0.0).same_bits(other) == same


def test_nan_is_equal_to_itself_in_bits() -> None:
    assert Token(1, 5, math.nan).same_bits(Token(1, 5, math.nan))
