"""So many bytes a second, whatever their portions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xpod_policy.pacing import BURST_SECONDS, Pace


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 500)), min_size=1), st.floats(10, 1000))
def test_never_faster_than_the_rate(steps: list[tuple[float, int]], rate: float) -> None:
    pace, now, sent = Pace(rate), 100.0, 0
    for rest, size in steps:
        now += rest
        now += pace.wait(size, now)
        assert sent <= rate * (now - 100.0 + BURST_SECONDS) * 1.001, "without the portion that is about to go"
        sent += size


def test_who_rested_may_begin_at_once_and_then_waits() -> None:
    pace = Pace(100)
    assert [pace.wait(25, 10.0), pace.wait(50, 10.0)] == [0.0, 0.0]
    assert pace.wait(50, 10.0) == 0.5
    assert pace.wait(50, 20.0) == 0.0
