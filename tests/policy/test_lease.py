"""Leadership as a table: what the store said when, who is alive, and who leads."""

from __future__ import annotations

import pytest

from xpod_policy.lease import Lease

A, B = "supervisor-0", "supervisor-1"
BOTH, ONLY_A, ONLY_B = {A, B}, {A}, {B}
Read = tuple[str, int, float]
CASES: dict[str, tuple[list[Read], set[str], float, int | None, bool]] = {
    # what was read (holder, revision, when), who is alive, now: the revision to claim with, whether A leads
    "never read: the first by name": ([], BOTH, 0.0, 0, True),
    "nobody holds it": ([("", 0, 0.0)], BOTH, 0.1, 0, False),
    "mine: renew it": ([(A, 5, 0.0)], BOTH, 0.1, 5, True),
    "another's": ([(B, 5, 0.0)], BOTH, 0.1, None, False),
    "another's, who is gone": ([(B, 5, 0.0)], ONLY_A, 0.1, 5, False),
    "another's, renewed often enough": ([(B, n, n / 2) for n in range(1, 20)], BOTH, 9.6, None, False),
    "another's, not renewed": ([(B, 5, n / 2) for n in range(8)], BOTH, 3.6, 5, False),
    "the store is silent: who held it last": ([(B, 5, 0.0)], BOTH, 2.0, None, False),
    "the store is silent: mine": ([(A, 5, 0.0)], BOTH, 2.0, 5, True),
    "the store is silent and the holder gone": ([(B, 5, 0.0)], ONLY_A, 2.0, 5, True),
    "lost to another": ([(A, 5, 0.0), (B, 6, 0.5)], BOTH, 0.6, None, False),
    "not even alive in its own eyes": ([], set(), 0.0, 0, False),
}


@pytest.mark.parametrize(("reads", "alive", "now", "claim", "leads"), CASES.values(), ids=list(CASES))
def test_leadership(reads: list[Read], alive: set[str], now: float, claim: int | None, leads: bool) -> None:
    lease = Lease(A)
    for holder, revision, when in reads:
        lease.read(holder, revision, when)
    assert (lease.to_claim(alive, now), lease.leads(alive, now)) == (claim, leads)


def test_of_two_that_lead_the_one_that_the_store_answers_goes_on() -> None:
    forsaken, answered = Lease(A), Lease(B)
    forsaken.read(A, 5, 0.0)
    answered.read(B, 6, 4.0)
    assert [lease.leads(BOTH, 4.1) for lease in (forsaken, answered)] == [True, True]
    answered.decided(A, 4.1)
    forsaken.decided(B, 4.1)
    assert [lease.leads(BOTH, 4.2) for lease in (forsaken, answered)] == [False, True]
    assert forsaken.leads(ONLY_A, 4.3), "but whoever is left leads"


def test_of_two_that_hear_nothing_one_leads() -> None:
    leases = [Lease(A), Lease(B)]
    assert [lease.leads(BOTH, 0.0) for lease in leases] == [True, False]
    assert [lease.leads(ONLY_B, 0.0) for lease in leases] == [False, True]
