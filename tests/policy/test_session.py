"""The life of a generation as a table: events and the instructions they give."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpod_policy.session import (
    Ask,
    Diverged,
    Emit,
    Fail,
    Finish,
    Instruction,
    Release,
    Session,
    Start,
    Token,
)

Event = Callable[[Session], list[Instruction]]
Story = list[tuple[Event, list[Instruction]]]
LENGTH = 5
REASONS = [""] * (LENGTH - 1) + ["length"]
TRUTH = [Token(i, 100 + i, -0.5 * i, finish=REASONS[i], cached=0 if i else 32) for i in range(LENGTH)]
T0, T1, T2, T3, LAST = TRUTH
WRONG = Token(1, 999, -0.5)


def assigned(epoch: int, worker: str) -> Event:
    return lambda session: session.assigned(epoch, worker)


def unplaced(epoch: int) -> Event:
    return lambda session: session.unplaced(epoch, "no_worker", "nobody has room")


def prefilled(epoch: int, first: Token | None = None) -> Event:
    return lambda session: session.prefill_done(epoch, first or T0)


def token(which: Token) -> Event:
    return lambda session: session.token(which)


def lost(worker: str) -> Event:
    return lambda session: session.worker_lost(worker, "silence")


def failed(epoch: int, code: str, worker: str = "p1") -> Event:
    return lambda session: session.worker_failed(epoch, worker, code, "why")


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


Workers = st.sampled_from(["w0", "w1", "w2"])
Late = st.sampled_from([0, 0, 0, 0, 1, 2, -1])
Tokens = st.sampled_from(TRUTH)
Lies = st.sampled_from([WRONG, Token(0, 1, 0.0, finish="stop"), Token(-1, 0, 0.0), Token(9, 9, 0.0)])


def events(tokens: st.SearchStrategy[Token]) -> st.SearchStrategy[Event]:
    """What may happen to a session without ending it; epochs are told relative to the session's own."""
    return st.one_of(
        tokens.map(token),
        st.builds(lambda late, which: lambda s: s.prefill_done(s.epoch - late, which), Late, tokens),
        st.builds(lambda late, name: lambda s: s.assigned(s.epoch - late, name), Late, Workers),
        st.builds(lambda late: lambda s: s.unplaced(s.epoch - late, "no_worker", ""), Late.filter(bool)),
        st.builds(
            lambda late, name: lambda s: s.worker_failed(s.epoch - late, name, "draining", ""), Late, Workers
        ),
        Workers.map(lost),
        st.just(Session.silent),
    )


ENDINGS: st.SearchStrategy[Event] = st.sampled_from(
    [
        Session.cancel,
        lambda session: session.unplaced(session.epoch, "no_worker", ""),
        lambda session: session.worker_failed(session.epoch, "w0", "internal", ""),
    ]
)
EXAMPLES = settings(deadline=None, derandomize=True, max_examples=500)


@EXAMPLES
@given(st.lists(st.one_of(events(Tokens), events(Tokens | Lies), ENDINGS), max_size=25))
def test_whatever_happens_the_stream_is_in_order_and_ends_once(happened: list[Event]) -> None:
    session = Session("s")
    emitted, started, ends = 0, -1, 0
    for event in [Session.open, *happened]:
        over = session.phase == "done"
        for instruction in event(session):
            assert not over or isinstance(instruction, Release)
            match instruction:
                case Emit(told):
                    assert (told.index, ends) == (emitted, 0)
                    emitted += 1
                case Start(kind, epoch):
                    assert epoch > started
                    assert kind == "prefill" or emitted > 0
                    started = epoch
                case Ask(_, start):
                    assert start == emitted
                case Finish() | Fail():
                    ends += 1
                    assert session.phase == "done"
        assert [known.index for known in session.tokens] == list(range(emitted))
        assert session.recoveries <= session.max_recoveries
        assert ends <= 1


@EXAMPLES
@given(st.lists(events(Tokens), max_size=25))
def test_whatever_happens_healthy_workers_finish_it(happened: list[Event]) -> None:
    """One prefill worker and one decode worker that live are enough: then every token came out, once, in order."""
    session = Session("s", max_recoveries=100)
    told: list[Instruction] = []
    for event in [Session.open, *happened]:
        told += event(session)
    if session.phase == "prefill":
        told += session.assigned(session.epoch, "p")
        told += session.prefill_done(session.epoch, T0)
    told += session.assigned(session.epoch, "d")
    for which in TRUTH[len(session.tokens) :]:
        told += session.token(which)
    emitted = [instruction.token for instruction in told if isinstance(instruction, Emit)]
    assert emitted == TRUTH
    assert [i for i in told if isinstance(i, Emit | Finish | Fail | Diverged)][-1] == Finish()
    assert not any(isinstance(instruction, Fail | Diverged) for instruction in told)
    assert session.cached == 32
