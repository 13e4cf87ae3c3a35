"""Whatever happens to a generation, in whatever order: what always holds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from policy.session_events import (
    T0,
    TRUTH,
    WRONG,
    Event,
    lost,
    token,
)
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
