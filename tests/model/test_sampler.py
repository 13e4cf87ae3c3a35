"""The sampler draws from the right distribution, filters as a naive reading of the rules does, and forgets nothing."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xpod_model.errors import SamplingError
from xpod_model.philox import Words, philox, uniform
from xpod_model.sampler import Sampling, sample, sample_greedy

DRAWS = 4000
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0)


def logits(size: int = 40, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 2


def frequencies(row: Tensor, sampling: Sampling) -> np.ndarray:
    tokens = [sample(row, sampling, position).token for position in range(DRAWS)]
    return np.bincount(tokens, minlength=row.numel()) / DRAWS


def naive(row: Tensor, sampling: Sampling) -> np.ndarray:
    """Temperature, min_p, top_k, top_p, one plain step after the other."""
    p = np.exp(row.double().numpy() / sampling.temperature)
    p /= p.sum()
    keep = p >= sampling.min_p * p.max()
    ranked = [int(i) for i in np.argsort(-p, kind="stable") if keep[i]]
    ranked = ranked[: sampling.top_k or None]
    total, mass, kept = sum(p[i] for i in ranked), 0.0, []
    for i in ranked:
        kept.append(i)
        mass += p[i] / total
        if mass >= sampling.top_p:
            break
    out = np.zeros_like(p)
    out[kept] = p[kept] / p[kept].sum()
    return out


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known answers of Random123's kat_vectors
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (PI[:4], PI[4:], "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_known_answers(counter: Words, key: tuple[int, int], expected: str) -> None:
    assert " ".join(f"{word:08x}" for word in philox(counter, key)) == expected


def test_uniform_is_uniform_over_positions_and_seeds() -> None:
    for draws in ([uniform(1, i) for i in range(DRAWS)], [uniform(i, 1) for i in range(DRAWS)]):
        counts = np.histogram(draws, 20, (0, 1))[0]
        assert (counts - DRAWS / 20).max() < 5 * math.sqrt(DRAWS / 20)
        assert len(set(draws)) == DRAWS
        assert 0 <= min(draws) <= max(draws) < 1
    assert uniform(2**64 + 5, 3) == uniform(5, 3)
    assert uniform(-1, 3) == uniform(2**64 - 1, 3)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.5, seed=1),
        Sampling(temperature=2.0, top_k=7, seed=2),
        Sampling(top_p=0.7, seed=3),
        Sampling(min_p=0.1, seed=4),
        Sampling(temperature=1.3, top_k=20, top_p=0.8, min_p=0.01, seed=5),
        Sampling(top_k=1, seed=6),
        Sampling(top_p=1e-9, seed=7),
    ],
    ids=str,
)
def test_distribution(sampling: Sampling) -> None:
    expected, found = naive(logits(), sampling), frequencies(logits(), sampling)
    assert not found[expected == 0].any()
    used = expected > 0
    chi_square = (DRAWS * (found - expected)[used] ** 2 / expected[used]).sum()
    freedom = max(1, used.sum() - 1)
    assert chi_square < freedom + 5 * math.sqrt(2 * freedom) + 5


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        Sampling,
        temperature=st.floats(0.1, 3),
        top_k=st.integers(0, 45),
        top_p=st.floats(0.05, 1),
        min_p=st.floats(0, 0.5),
        seed=st.integers(0, 2**63),
    ),
    st.integers(0, 50),
)
def test_only_what_passes_the_filters_is_drawn(sampling: Sampling, row: int) -> None:
    allowed = naive(logits(seed=row), sampling)
    assert all(allowed[sample(logits(seed=row), sampling, position).token] > 0 for position in range(5))


def test_equal_inputs_give_equal_tokens_whatever_came_before() -> None:
    sampling = Sampling(temperature=1.5, seed=9)
    once = [sample(logits(), sampling, position) for position in range(20)]
    assert [sample(logits(), sampling, position) for position in reversed(range(20))] == once[::-1]
    assert len({sampled.token for sampled in once}) > 3


def test_greedy_takes_the_lowest_of_equals() -> None:
    row = torch.tensor([1.0, 5.0, 5.0, 2.0])
    assert sample(row, Sampling(temperature=0), 0).token == 1
    assert sample_greedy(row.expand(3, -1))[2].token == 1


@pytest.mark.parametrize("rows", [1, 2, 5, 33])
def test_greedy_rows_are_single_samples(rows: int) -> None:
    batch = torch.stack([logits(1000, seed) for seed in range(rows)])
    assert sample_greedy(batch) == [sample(row, Sampling(temperature=0), 3) for row in batch]


def test_ties_at_top_k_go_to_the_lower_index() -> None:
    row = torch.tensor([1.0, 2.0, 2.0, 2.0])
    drawn = {sample(row, Sampling(top_k=2, seed=1), position).token for position in range(200)}
    assert drawn == {1, 2}


def test_logprob_is_of_the_raw_logits() -> None:
    sampling = Sampling(temperature=0.3, top_k=2, frequency_penalty=1.0, logprobs=3)
    found = sample(logits(), sampling, 4, [1], [2, 2])
    exact = torch.log_softmax(logits().double(), -1)
    assert found.logprob == pytest.approx(float(exact[found.token]), abs=1e-5)
    best = torch.topk(exact, 3)
    assert [token for token, _ in found.top] == best.indices.tolist()
    assert [logprob for _, logprob in found.top] == pytest.approx(best.values.tolist(), abs=1e-5)


@pytest.mark.parametrize(("count", "expected"), [(-1, 0), (0, 0), (1, 1), (5, 5), (100, 40)])
def test_number_of_alternatives(count: int, expected: int) -> None:
    assert len(sample(logits(), Sampling(logprobs=count), 0).top) == expected


def test_alternatives_that_tie_come_lowest_first() -> None:
    top = sample(torch.tensor([0.0, 1.0, 1.0, 1.0]), Sampling(logprobs=2), 0).top
    assert [token for token, _ in top] == [1, 2]


ROW = torch.tensor([3.0, 2.0, -1.0, 0.0])
EDITS = [
    (Sampling(temperature=0, repetition_penalty=2.0), [0], [], 1),  # 1.5 < 2
    (Sampling(temperature=0, repetition_penalty=2.0), [], [0], 1),
    (Sampling(temperature=0, presence_penalty=1.5), [0], [], 0),  # the prompt does not count
    (Sampling(temperature=0, presence_penalty=1.5), [], [0], 1),
    (Sampling(temperature=0, frequency_penalty=0.6), [], [0], 0),
    (Sampling(temperature=0, frequency_penalty=0.6), [], [0, 0], 1),
    (Sampling(temperature=0, logit_bias=((3, 4.0),)), [], [], 3),
    (Sampling(temperature=0, logit_bias=((99, 4.0),)), [], [], 0),
    (Sampling(temperature=0, min_tokens=2, eos_token_ids=(0, 99)), [5], [1], 1),
    (Sampling(temperature=0, min_tokens=2, eos_token_ids=(0,)), [5], [1, 1], 0),
]


@pytest.mark.parametrize(("sampling", "prompt", "generated", "token"), EDITS)
def test_edits(sampling: Sampling, prompt: list[int], generated: list[int], token: int) -> None:
    row = torch.cat([ROW, torch.full((2,), -9.0)])
    before = row.clone()
    assert sample(row, sampling, 0, prompt, generated).token == token
    assert torch.equal(row, before)


def test_repetition_penalty_pushes_negative_logits_down() -> None:
    row = torch.tensor([-1.0, -1.5])
    assert sample(row, Sampling(temperature=0, repetition_penalty=2.0), 0, [0]).token == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1},
        {"temperature": math.inf},
        {"temperature": math.nan},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -2},
        {"min_p": 2},
        {"repetition_penalty": 0},
        {"logprobs": -2},
    ],
)
def test_out_of_range(bad: dict[str, float]) -> None:
    with pytest.raises(SamplingError, match=next(iter(bad))):
        Sampling(**bad)  # type: ignore[arg-type]
