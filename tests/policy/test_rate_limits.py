"""Limits of requests and tokens a minute and of requests at once, as a table."""

from __future__ import annotations

import pytest

from xpod_policy.rate_limits import Account, Balance, Bucket, Limits, Refusal


def account(**limits: int) -> Account:
    return Account(Limits(**limits), 0.0)


def test_without_limits_everything_goes() -> None:
    free = account()
    assert [free.enter(0.0) for _ in range(1000)] == [None] * 1000
    assert free.ask(10**9, 0.0) is None
    assert free.balances(0.0) == {}


def test_requests_of_a_minute_and_how_they_come_back() -> None:
    two = account(requests_per_minute=2)
    assert [two.enter(0.0), two.enter(0.0)] == [None, None]
    assert two.enter(0.0) == Refusal("requests per minute", 2, 30.0)
    assert two.enter(15.0) == Refusal("requests per minute", 2, 15.0)
    assert two.enter(30.0) is None
    assert two.balances(30.0) == {"requests": Balance(2, 0, 60.0)}


def test_no_more_than_a_minutes_worth_is_saved() -> None:
    two = account(requests_per_minute=2)
    assert [two.enter(1e6), two.enter(1e6)] == [None, None]
    assert two.enter(1e6) is not None


def test_a_refused_request_costs_nothing() -> None:
    one = account(requests_per_minute=60, concurrent=1)
    assert one.enter(0.0) is None
    assert [one.enter(0.0) for _ in range(100)] == [Refusal("requests at once", 1, None)] * 100
    assert one.balances(0.0)["requests"].remaining == 59
    one.leave()
    assert one.enter(0.0) is None


def test_an_answer_is_paid_for_as_it_comes_and_may_end_in_debt() -> None:
    each = account(tokens_per_minute=60)
    assert each.enter(0.0) is None
    assert each.ask(50, 0.0) is None
    each.spend(40, 0.0)  # 30 are owed
    assert each.balances(0.0) == {"tokens": Balance(60, 0, 90.0)}
    assert each.enter(0.0) == Refusal("tokens per minute", 60, 31.0)
    assert each.enter(31.0) is None
    assert each.ask(10, 31.0) == Refusal("tokens per minute", 60, 9.0)


def test_a_prompt_larger_than_the_limit_waits_for_a_full_minute() -> None:
    each = account(tokens_per_minute=60)
    assert each.ask(1000, 0.0) is None
    assert each.ask(1, 60.0) == Refusal("tokens per minute", 60, 881.0)


def test_other_limits_from_now_on() -> None:
    each = account(requests_per_minute=1, concurrent=5)
    assert each.enter(0.0) is None
    each.change(Limits(requests_per_minute=1, concurrent=9), 0.0)
    assert each.enter(0.0) is not None  # what stays the same keeps its balance
    each.change(Limits(requests_per_minute=3), 0.0)
    assert [each.enter(0.0) for _ in range(4)].count(None) == 3
    each.change(Limits(), 0.0)
    assert each.enter(0.0) is None


@pytest.mark.parametrize("back", [5.0, -1e9])
def test_a_clock_that_goes_back_gives_nothing(back: float) -> None:
    bucket = Bucket(10, 10.0)
    bucket.spend(10, 10.0)
    assert bucket.level(back) == 0.0
    assert bucket.level(16.0) == 1.0
