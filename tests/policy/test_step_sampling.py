"""Which steps are looked into: bounded, whatever runs; fair to those that do."""

from __future__ import annotations

import pytest

from xpod_policy.step_sampling import REST, StepSampling


@pytest.mark.parametrize(
    ("every", "steps", "expected"),
    [
        (4, 10, [0, 4, 8]),
        (1, 3, [0, 1, 2]),
        (100, 10, [0]),
    ],
)
def test_one_sequence_alone(every: int, steps: int, expected: list[int]) -> None:
    sampling = StepSampling(every)
    assert [step for step in range(steps) if sampling.choose(["a"]) == "a"] == expected


def test_many_share_what_may_be_looked_into() -> None:
    sampling = StepSampling(32)
    ids = [f"s{number}" for number in range(64)]
    assert [sampling.choose(ids) for _ in ids] == ids, "newcomers are not kept waiting"
    later = [id for _ in range(1024) if (id := sampling.choose(ids)) is not None]
    assert len(later) == 1024 // (32 // REST)
    assert {later.count(id) for id in ids} == {4}


def test_a_newcomer_is_next_and_others_go_on_after_a_rest() -> None:
    sampling = StepSampling(16)
    assert [sampling.choose(["a"]) for _ in range(16)] == ["a", *[None] * 15]
    assert [sampling.choose(["a", "b"]) for _ in range(4)] == ["b", None, "a", None]
    assert [sampling.choose(["a", "b"]) for _ in range(14)] == [*[None] * 12, "b", None]


def test_who_left_and_comes_back_is_new() -> None:
    sampling = StepSampling(8)
    assert sampling.choose(["a"]) == "a"
    sampling.leave("a")
    assert sampling.choose(["a"]) == "a"


def test_nobody_to_look_into() -> None:
    sampling = StepSampling(8)
    assert sampling.choose([]) is None
    assert sampling.choose(["a"]) == "a"
