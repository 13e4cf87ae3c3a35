"""Deaths in, verdicts out."""

import signal

import pytest

from xpod.cli.restarts import Again, GiveUp, Restarts, describe


def test_bad_configuration_is_never_started_again() -> None:
    assert isinstance(Restarts().died(2, 100.0, 0.0), GiveUp)


def test_the_wait_doubles_up_to_a_limit() -> None:
    restarts = Restarts(first=0.1, longest=1.0, stable=10.0)
    waits = [restarts.died(-signal.SIGKILL, 0.5, float(now)) for now in range(6)]
    assert waits == [Again(0.1), Again(0.2), Again(0.4), Again(0.8), Again(1.0), Again(1.0)]


def test_a_long_life_makes_the_wait_short_again() -> None:
    restarts = Restarts(first=0.1, stable=10.0)
    restarts.died(1, 0.5, 0.0)
    restarts.died(1, 0.5, 1.0)
    assert restarts.died(1, 10.0, 11.0) == Again(0.1)


def test_too_many_failures_in_the_window_end_it() -> None:
    restarts = Restarts(intensity=3, window=60.0)
    verdicts = [restarts.died(1, 1.0, float(now)) for now in range(4)]
    assert [isinstance(verdict, Again) for verdict in verdicts] == [True, True, True, False]
    assert verdicts[-1] == GiveUp("it failed 4 times in 60 s")


def test_old_failures_are_forgotten() -> None:
    restarts = Restarts(intensity=1, window=10.0)
    assert all(isinstance(restarts.died(1, 1.0, now), Again) for now in (0.0, 11.0, 22.0, 33.0))


@pytest.mark.parametrize("status", [0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT])
def test_deaths_from_outside_never_end_it(status: int) -> None:
    restarts = Restarts(intensity=1)
    assert all(isinstance(restarts.died(status, 0.1, now / 10), Again) for now in range(100))


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "exit status 0"), (3, "exit status 3"), (-9, "killed by SIGKILL"), (-63, "killed by signal 63")],
)
def test_words(status: int, words: str) -> None:
    assert describe(status) == words
