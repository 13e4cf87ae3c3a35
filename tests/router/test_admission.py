"""Who may go to prefill workers, and who is refused."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

import pytest

from xpod.router.admission import WAIT_FOR_DECODE, Admission, Limit, Pass
from xpod.router.api.engine_protocol import Overloaded


def may_go(*passes: Pass) -> list[bool]:
    return [each._granted.is_set() for each in passes]


def test_as_many_go_as_there_is_room_for() -> None:
    admission = Admission(lambda: 100)
    first, second, third, fourth = (admission.enter("a", 50) for _ in range(4))
    assert may_go(first, second, third, fourth) == [True, True, False, False]
    assert admission.waiting == 2
    first.leave()
    assert may_go(third, fourth) == [True, False]
    third.leave()
    third.leave()
    second.leave()
    assert admission.waiting == 0
    assert may_go(fourth) == [True]


def test_one_that_is_larger_than_all_room_goes_alone() -> None:
    admission = Admission(lambda: 10)
    large, small = admission.enter("a", 5000), admission.enter("a", 1)
    assert may_go(large, small) == [True, False]
    large.leave()
    assert may_go(small) == [True]


def test_more_room_lets_more_in() -> None:
    rooms = [10.0]
    admission = Admission(lambda: rooms[0])
    first, second = admission.enter("a", 10), admission.enter("a", 10)
    rooms[0] = 100.0
    admission.look()
    assert may_go(first, second) == [True, True]


def test_a_flood_waits_for_itself() -> None:
    """A tenant that has nothing under way goes at once; beyond that, in turn."""
    admission = Admission(lambda: 100)
    flood = [admission.enter("loud", 100) for _ in range(50)]
    quiet = [admission.enter("quiet", 100) for _ in range(2)]
    assert may_go(*flood[:2], *quiet) == [True, False, True, False]
    flood[0].leave()
    assert may_go(*flood[1:3], quiet[1]) == [True, False, False]
    quiet[0].leave()
    assert may_go(*flood[1:3], quiet[1]) == [True, False, True]


def test_a_tenant_has_its_share_of_the_room_whatever_others_took() -> None:
    admission = Admission(lambda: 400)
    flood = [admission.enter("loud", 100) for _ in range(10)]
    quiet = [admission.enter("quiet", 100) for _ in range(3)]
    assert may_go(*flood).count(True) == 4
    assert may_go(*quiet) == [True, True, False]
    flood[0].leave()
    assert may_go(*flood[1:]).count(True) == 3
    quiet[0].leave()
    assert may_go(*quiet[1:]) == [True, True]


async def test_who_leaves_while_it_waits_is_told() -> None:
    admission = Admission(lambda: 1)
    _, waits = admission.enter("a", 10), admission.enter("a", 10)
    waits.leave()
    await waits.granted()
    assert admission.waiting == 0


def test_a_tenant_whose_sessions_find_no_decode_worker_begins_no_more() -> None:
    admission = Admission(lambda: 1e9)
    with ExitStack() as waiting:
        for _ in range(WAIT_FOR_DECODE):
            waiting.enter_context(admission.homeless("loud"))
        loud, quiet = admission.enter("loud", 10), admission.enter("quiet", 10)
        assert may_go(loud, quiet) == [False, True]
    assert may_go(loud) == [True]


@pytest.mark.parametrize(
    ("tenant", "live", "refused"),
    [
        ("a", {"a": 9}, False),
        ("a", {"a": 10}, True),
        ("b", {"a": 10}, False),
        ("b", {"a": 10, "b": 4}, False),
        ("b", {"a": 10, "b": 5}, True),
        ("a", {"a": 10, "b": 5}, True),
        ("a", {"a": 4, "b": 7}, False),
        ("c", {"a": 9, "b": 5}, False),
    ],
)
def test_beyond_the_limit_tenants_keep_to_their_share(
    tenant: str, live: dict[str, int], refused: bool
) -> None:
    limit = Limit(10)
    if refused:
        with pytest.raises(Overloaded):
            limit.check(tenant, Counter(live), 1.0)
    else:
        limit.check(tenant, Counter(live), 1.0)
