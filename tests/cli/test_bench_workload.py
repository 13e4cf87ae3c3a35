"""What is asked follows from the seed."""

from __future__ import annotations

from itertools import pairwise

import pytest

from xpod.cli.bench.workload import FIRST_TOKEN, Lengths, PromptAs, Workload
from xpod.cli.errors import CliError


def workload(seed: int = 1, prompt_as: PromptAs = "tokens") -> Workload:
    return Workload(seed, Lengths(3, 9), Lengths(5, 5), prompt_as, 64)


@pytest.mark.parametrize(("text", "low", "high"), [("7", 7, 7), ("3:9", 3, 9), ("1:1", 1, 1)])
def test_lengths(text: str, low: int, high: int) -> None:
    assert Lengths.parse("--x", text) == Lengths(low, high)


@pytest.mark.parametrize("text", ["", "0", "-3", "a", "9:3", "1:2:3", "1:", ":4", "1.5"])
def test_lengths_that_are_none(text: str) -> None:
    with pytest.raises(CliError, match=r"^--x: .* is not N or MIN:MAX"):
        Lengths.parse("--x", text)


def test_the_same_seed_asks_the_same() -> None:
    assert list(workload().jobs(20)) == list(workload().jobs(20))
    assert list(workload().jobs(20)) != list(workload(2).jobs(20))
    assert workload().arrivals(3.0, 50) == workload().arrivals(3.0, 50)


def test_prompts_have_their_length_and_ids_their_range() -> None:
    jobs = list(workload().jobs(200))
    assert {job.prompt_tokens for job in jobs} == set(range(3, 10))
    assert all(len(job.prompt) == job.prompt_tokens for job in jobs)
    ids = {token for job in jobs for token in job.prompt}
    assert min(ids) == FIRST_TOKEN
    assert max(ids) == 63


def test_prompts_of_words() -> None:
    job = workload(prompt_as="text").job(0)
    assert isinstance(job.prompt, str)
    assert 3 <= len(job.prompt.split()) <= 9
    assert job.prompt_tokens is None


def test_a_warmup_asks_for_nothing_that_is_measured() -> None:
    warm = [str(job.prompt) for job in workload().warmup(20)]
    assert len(warm) == 20
    assert not set(warm) & {str(job.prompt) for job in workload().jobs(20)}


def test_arrivals_are_poisson() -> None:
    times = workload().arrivals(4.0, 4000)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert times[0] == 0.0
    assert mean == pytest.approx(0.25, rel=0.1)
    assert spread == pytest.approx(mean, rel=0.1), "exponential gaps vary as much as they last"
