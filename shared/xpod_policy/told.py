"""What members tell of themselves in hellos and heartbeats, as numbers. What is absent or odd is None or a default."""

from __future__ import annotations

from math import isfinite

from xpod_policy.blocks import NAME_BYTES
from xpod_policy.cost import LoadCost, PrefillCost
from xpod_policy.membership import Member

STEP_TOKENS = 512
LOAD_CALL, LOAD_BLOCK = 0.005, 0.001
"""Seconds, where a worker has not fetched any blocks yet."""


def number(member: Member, key: str) -> float | None:
    """A finite number that is not negative."""
    value = member.load.get(key)
    if isinstance(value, str) or value is None or not isfinite(value) or value < 0:
        return None
    return float(value)


def root(member: Member) -> bytes | None:
    """The root of its block names, for sessions without a salt."""
    told = member.detail.get("namespace")
    try:
        found = bytes.fromhex(told) if isinstance(told, str) else b""
    except ValueError:
        return None
    return found if len(found) == NAME_BYTES else None


def prefill_cost(member: Member) -> PrefillCost | None:
    """What a prompt costs there, once it has measured that."""
    step, token, pair = (number(member, f"cost_{part}") for part in ("step", "token", "pair"))
    if step is None or token is None or pair is None:
        return None
    return PrefillCost(step, token, pair, step_tokens(member))


def step_tokens(member: Member) -> int:
    """The most tokens that a step of it computes."""
    told = member.detail.get("step_tokens")
    return told if isinstance(told, int) and told > 0 else STEP_TOKENS


def load_cost(member: Member) -> LoadCost:
    """What blocks from MemPool cost it."""
    call, block = number(member, "cost_load_call"), number(member, "cost_load_block")
    return LoadCost(LOAD_CALL if call is None else call, LOAD_BLOCK if block is None else block)
