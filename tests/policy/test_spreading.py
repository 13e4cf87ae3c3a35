"""Small batches of small experts go to few shards."""

from __future__ import annotations

import pytest

from xpod_policy.spreading import MOST_TOKENS, WORTH_BYTES, few_tokens

MB = 1 << 20
# experts, experts a token, megabytes of one: tokens
SIZES = {
    "all experts are little": ((16, 2, 1), MOST_TOKENS),
    "just little enough": ((45, 8, 1), MOST_TOKENS),
    "a token's experts are little": ((128, 8, 1), 5),
    "one token's, just": ((128, 45, 1), 1),
    "large ones": ((128, 8, 9), 0),
    "many little ones": ((1000, 1, 1), MOST_TOKENS),
}


@pytest.mark.parametrize("case", SIZES)
def test_how_many_tokens_are_few(case: str) -> None:
    (experts, per_token, megabytes), tokens = SIZES[case]
    assert few_tokens(experts, per_token, megabytes * MB) == tokens
    assert tokens * per_token * megabytes * MB <= WORTH_BYTES or experts * megabytes * MB <= WORTH_BYTES
