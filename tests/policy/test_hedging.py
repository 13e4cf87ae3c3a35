"""When a call is hedged: after a time that hardly any call of its size takes."""

import random

import pytest

from xpod_policy.hedging import FIRST_SECONDS, LEAST_SECONDS, MOST_TIMES, TIMES, Latencies


def test_before_anything_is_known_there_is_time() -> None:
    assert Latencies().patience(8) == FIRST_SECONDS


def test_quick_calls_are_given_the_least() -> None:
    latencies = Latencies()
    for _ in range(100):
        latencies.took(8, 0.001)
    assert latencies.patience(8) == LEAST_SECONDS


def test_sizes_that_were_not_seen_are_judged_by_their_neighbours() -> None:
    latencies = Latencies()
    latencies.took(16, 0.05)
    assert latencies.patience(3) == latencies.patience(16)
    assert latencies.patience(64) == 4 * latencies.patience(16)
    latencies.took(1024, 0.06)
    assert latencies.patience(64) == latencies.patience(1024)


@pytest.mark.parametrize("seed", range(5))
def test_the_estimate_is_near_the_99th_percentile(seed: int) -> None:
    rng, latencies, hedged = random.Random(seed), Latencies(), 0
    for number in range(20_000):
        seconds = rng.expovariate(1 / 0.03)
        hedged += number >= 1000 and seconds > latencies.patience(100) / TIMES
        latencies.took(100, seconds)
    assert hedged / 19_000 == pytest.approx(0.01, rel=0.3)


def test_a_machine_that_slows_down_is_learned() -> None:
    latencies = Latencies()
    for seconds in [0.01] * 1000 + [0.1] * 40:
        latencies.took(4, seconds)
    assert latencies.patience(4) > TIMES * 0.09


def test_a_size_that_was_met_in_a_bad_moment_is_bounded_by_the_others() -> None:
    latencies = Latencies()
    latencies.took(200, 4.0)  # it waited for a hung node
    for size in (4, 700):
        for _ in range(20):
            latencies.took(size, 0.004)
    assert latencies.patience(200) == FIRST_SECONDS


def test_sizes_that_were_not_seen_are_not_waited_for_for_ever() -> None:
    latencies = Latencies()
    for number in range(40):
        latencies.took(8, 0.1 if number % 4 == 0 else 0.002)
    assert latencies.patience(1000) < MOST_TIMES * 64 * 0.003


def test_calls_that_all_take_long_are_given_their_time() -> None:
    latencies = Latencies()
    for number in range(2000):
        latencies.took(200, 2.0 + number % 7)
    assert latencies.patience(200) > 30
    for _ in range(50):
        latencies.took(200, 7.0)
    assert latencies.patience(200) > 30
