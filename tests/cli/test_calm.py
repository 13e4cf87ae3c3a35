"""What a time without faults adds up to."""

from __future__ import annotations

import pytest

from xpod.cli.chaos.calm import Calm
from xpod.cli.chaos.growth import Sample
from xpod.cli.chaos.load import Ended
from xpod.cli.chaos.oracle import Verdict

SAMPLES = [Sample(0.0, []), Sample(60.0, [])]


def test_a_calm_is_reported() -> None:
    streams = [
        Ended(0, Verdict(), "", 0.1, 2.0, 0),
        Ended(1, Verdict(lost=1), "", 0.3, 2.0, 1),
        Ended(2, Verdict(), "gone", 0.0, 2.0, 0),
    ]
    report = Calm(60.0, streams, 3, 1, 1000, 5, SAMPLES).report()
    assert (report["streams"], report["wrong"], report["recoveries"]) == (3, 2, 1)
    assert (report["suspected"], report["declared_down"], report["hedged_share"]) == (3, 1, 0.005)
    assert report["gap_p50"] == pytest.approx(0.2)


def test_nothing_is_no_share() -> None:
    report = Calm(0.0, [], 0, 0, 0, 0, SAMPLES).report()
    assert (report["hedged_share"], report["gap_p50"]) == (0.0, None)
