"""Scores of a prompt, however its logits come."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from xpod_model.sampler import likelihood
from xpod_model.scores import Scores

PROMPT = [3, 1, 4, 1, 5]


@pytest.mark.parametrize("cuts", [[0, 5], [0, 1, 2, 3, 4, 5], [0, 2, 5], [0, 4, 5]])
@pytest.mark.parametrize("alternatives", [0, 2])
def test_each_token_is_scored_by_the_row_before_it(cuts: list[int], alternatives: int) -> None:
    """What follows the prompt is not: its last row is of no use."""
    logits = torch.randn(len(PROMPT), 7, generator=torch.Generator().manual_seed(1))
    scores = Scores(PROMPT, alternatives)
    for start, stop in pairwise(cuts):
        scores.take(start, logits[start:stop])
    expected = [likelihood(logits[at], PROMPT[at + 1], alternatives) for at in range(len(PROMPT) - 1)]
    assert scores.whole() == expected
    assert {len(each.top) for each in expected} == {alternatives}


def test_a_prompt_of_one_token_has_none() -> None:
    scores = Scores([3], 2)
    scores.take(0, torch.zeros(1, 7))
    assert scores.whole() == []
