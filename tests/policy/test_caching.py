"""Who finds whose blocks, on each rung of the ladder."""

from __future__ import annotations

import pytest

from xpod_policy.blocks import BLOCK_TOKENS, block_refs, salted
from xpod_policy.caching import Caching, Naming

ROOT = b"r" * 16
TOKENS = list(range(4 * BLOCK_TOKENS))


def names(caching: Caching, session: str, prompt: int, root: bytes = ROOT) -> list[bytes]:
    """Of the four blocks of `TOKENS`, of which the first `prompt` are the prompt."""
    naming, chain = Naming(root, session, prompt, caching), [root]
    for start in range(0, len(TOKENS), BLOCK_TOKENS):
        end = start + BLOCK_TOKENS
        chain.append(naming.name(chain[-1], TOKENS[start:end], end))
    return chain[1:]


# blocks that another session finds: one that has the same prompt of two blocks and a half, and one whose prompt is all
SHARED = {Caching.BASIC: (0, 0), Caching.PREFILL: (2, 2), Caching.DECODE: (2, 2), Caching.FULL: (4, 4)}


@pytest.mark.parametrize("caching", Caching)
def test_what_others_find(caching: Caching) -> None:
    ours = names(caching, "a", 40)
    for prompt, shared in zip((40, 64), SHARED[caching], strict=True):
        theirs = names(caching, "b", prompt)
        assert [a == b for a, b in zip(ours, theirs, strict=True)] == [True] * shared + [False] * (4 - shared)


@pytest.mark.parametrize("caching", Caching)
def test_a_session_finds_its_own_again(caching: Caching) -> None:
    assert names(caching, "a", 40) == names(caching, "a", 40)
    assert len(set(names(caching, "a", 40))) == 4


def test_without_secrets_names_are_those_of_the_tokens() -> None:
    assert names(Caching.FULL, "a", 40) == [ref.name for ref in block_refs(ROOT, TOKENS)]


@pytest.mark.parametrize("caching", Caching)
def test_no_salt_finds_what_another_has(caching: Caching) -> None:
    ours, theirs = (names(caching, "a", 40, salted(ROOT, salt)) for salt in ("one", "two"))
    assert not set(ours) & set(theirs)
    assert not set(ours) & set(names(caching, "a", 40))


def test_no_salt_changes_nothing() -> None:
    assert salted(ROOT, "") == ROOT


def test_who_keeps_what() -> None:
    assert [each.prefill_keeps for each in Caching] == [False, True, True, True]
    assert [each.decode_keeps for each in Caching] == [False, False, True, True]
