"""`xpod drain` without a pod: who, in which order, and when the pod is as it was."""

from __future__ import annotations

from typing import Any

import pytest

from xpod.cli.drain import Before, chosen
from xpod.cli.errors import CliError
from xpod.cli.process import ref_of
from xpod.cli.state import MemberState, PodState

NAMES = ("nats-0", "mempool-0", "supervisor-0", "expert-0", "prefill-0", "decode-0", "decode-1", "router-0")


def state() -> PodState:
    members = [MemberState(name, name.rpartition("-")[0]) for name in reversed(NAMES)]
    return PodState("p", "m", "/d", ref_of(1), ["http://r"], ["nats://n"], members=members)


def test_all_are_drained_kind_by_kind_and_routers_last() -> None:
    assert chosen(state(), [], everybody=True) == [
        "mempool-0", "supervisor-0", "expert-0", "prefill-0", "decode-1", "decode-0", "router-0",
    ]  # fmt: skip
    assert chosen(state(), ["nats-0"], everybody=False) == ["nats-0"]


@pytest.mark.parametrize(("members", "everybody"), [([], False), (["decode-0"], True)])
def test_somebody_or_all_must_be_named(members: list[str], everybody: bool) -> None:
    with pytest.raises(CliError, match="name members, or say --all"):
        chosen(state(), members, everybody)


def view(ready: bool = True, held: int = 2, **states: Any) -> dict[str, Any]:
    members = [
        {"id": name.replace("_", "-"), "state": told[0], "pid": told[1], "since": told[2]}
        for name, told in {"decode_0": ("up", 5, 10.0), "decode_1": ("up", 6, 10.0), **states}.items()
    ]
    return {
        "ready": ready,
        "members": members,
        "placement": {"experts": {"0": {"0": ["s"] * held, "1": ["s"] * 3}}},
    }


BEFORE = Before(frozenset({"decode-0", "decode-1"}), 2, 100.0)
# what routers tell while decode-0, now process 7, is waited for
AFTER = {
    "back": (view(decode_0=("up", 7, 105.0)), ""),
    "still the old one": (view(), "decode-0 is not up"),
    "starting": (view(decode_0=("starting", 7, 105.0)), "decode-0 is not up"),
    "unknown": ({**view(), "members": []}, "decode-0 is not up"),
    "not ready": (view(ready=False, decode_0=("up", 7, 105.0)), "the pod cannot serve"),
    "another one away": (
        view(decode_0=("up", 7, 105.0), decode_1=("down", 6, 104.0)),
        "decode-1 not up",
    ),
    "experts short": (view(held=1, decode_0=("up", 7, 105.0)), "an expert is held 1 times, not 2 times"),
    "a stranger away": (view(decode_0=("up", 7, 105.0), decode_2=("down", 6, 104.0)), ""),
}


@pytest.mark.parametrize("case", AFTER)
def test_when_the_pod_is_as_before(case: str) -> None:
    told, missing = AFTER[case]
    assert BEFORE.missing(told, "decode-0", 7) == missing


def test_a_nats_node_without_a_pid_is_told_by_its_time() -> None:
    before = Before(frozenset({"nats-0"}), 2, 100.0)
    assert before.missing(view(nats_0=("up", None, 99.0)), "nats-0", 7) == "nats-0 is not up"
    assert before.missing(view(nats_0=("up", None, 101.0)), "nats-0", 7) == ""


def test_what_was_before_is_who_was_up() -> None:
    before = Before.of(view(decode_1=("suspect", 6, 1.0)))
    assert (before.up, before.copies) == (frozenset({"decode-0"}), 2)
