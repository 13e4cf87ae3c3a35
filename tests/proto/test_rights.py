"""Who may say and hear what on the bus."""

from __future__ import annotations

import pytest

from xpod_proto import subjects
from xpod_proto.rights import WATCHES, Rights, rights


def allowed(patterns: tuple[str, ...], subject: str) -> bool:
    """As a NATS server matches: `*` is one token, `>` the rest."""
    return any(_matches(pattern.split("."), subject.split(".")) for pattern in patterns)


def _matches(pattern: list[str], subject: list[str]) -> bool:
    if pattern[-1] == ">":
        pattern, subject = pattern[:-1], subject[: len(pattern) - 1] if len(subject) >= len(pattern) else []
        if not subject:
            return False
    return len(pattern) == len(subject) and all(
        ours in ("*", theirs) for ours, theirs in zip(pattern, subject, strict=True)
    )


def of(kind: str) -> Rights:
    return rights("one", kind)


OWN = {
    "tokens of a session": (subjects.tokens("one", "s1"), {"prefill", "decode"}, {"router"}),
    "calls of an expert": (subjects.calls("one", "expert-0"), {"prefill", "decode"}, {"expert"}),
    "the placement": (subjects.placement("one"), {"supervisor"}, {"expert", "supervisor"}),
    "what shards hold": (
        subjects.holdings("one"),
        {"expert"},
        {"router", "prefill", "decode", "expert", "supervisor"},
    ),
    "what is computed": (subjects.running("one"), {"prefill", "decode"}, {"router"}),
    "news of blocks": (subjects.kv("one"), {"prefill", "mempool"}, {"router"}),
    "a session in the journal": ("$KV.one-sessions.s1.facts", {"router"}, set()),
    "a response that is kept": ("$KV.one-responses.r1.facts", {"router"}, set()),
    "how many are kept": ("$JS.API.STREAM.UPDATE.KV_one-responses", {"router"}, set()),
    "settings of the journal": ("$JS.API.STREAM.UPDATE.KV_one-sessions", set(), set()),
    "the supervisors' lease": ("$KV.one-pod.lease", {"supervisor"}, set()),
    "dropping a session": ("$JS.API.STREAM.PURGE.KV_one-sessions", {"router"}, set()),
    "deleting a store": ("$JS.API.STREAM.DELETE.KV_one-sessions", set(), set()),
    "a consumer that reads a store": ("$JS.API.CONSUMER.CREATE.KV_one-sessions", set(), set()),
    "orders to servers": ("$SYS.REQ.SERVER.PING", set(), set()),
    "another pod's hello": (subjects.hello("two"), set(), set()),
}


@pytest.mark.parametrize("what", OWN)
def test_each_kind_says_and_hears_what_it_needs(what: str) -> None:
    subject, say, hear = OWN[what]
    assert {kind for kind in subjects.KINDS if allowed(of(kind).publish, subject)} == say
    assert {kind for kind in subjects.KINDS if allowed(of(kind).subscribe, subject)} == hear


@pytest.mark.parametrize("kind", subjects.KINDS)
def test_nobody_reads_the_mail_or_beats_with_the_heart_of_another_kind(kind: str) -> None:
    for other in subjects.KINDS:
        for private in (subjects.mailbox("one", other, "a-1"), f"{subjects.inbox('one', other)}.x.1"):
            assert allowed(of(kind).subscribe, private) == (other == kind)
        assert allowed(of(kind).publish, subjects.heartbeat("one", other)) == (other == kind)
        hears = other in (*WATCHES[kind], kind)  # its own kind's, for whoever checks its health as itself
        assert allowed(of(kind).subscribe, subjects.heartbeat("one", other)) == hears


@pytest.mark.parametrize("kind", subjects.KINDS)
def test_everybody_is_known_and_can_be_doubted(kind: str) -> None:
    for subject in (subjects.hello("one"), subjects.down("one"), subjects.doubt("one")):
        assert allowed(of(kind).publish, subject)
        assert allowed(of(kind).subscribe, subject)
    assert allowed(of(kind).publish, subjects.probe("one", "router-0"))
    assert allowed(of(kind).subscribe, subjects.probe("one", "router-0"))


def test_who_is_asked_can_answer() -> None:
    """And send its question in pieces, which go to the other's inbox."""
    pairs = [("router", kind) for kind in subjects.KINDS]
    pairs += [(worker, kind) for worker in ("prefill", "decode") for kind in ("mempool", "expert")]
    pairs += [(kind, watched) for kind in subjects.KINDS for watched in WATCHES[kind]]
    for one, other in pairs:
        assert allowed(of(one).publish, f"{subjects.inbox('one', other)}.x.1"), (one, other)
        assert allowed(of(other).publish, f"{subjects.inbox('one', one)}.x.1"), (other, one)


def test_those_that_never_talk_cannot() -> None:
    for one, other in (("decode", "prefill"), ("mempool", "supervisor"), ("expert", "mempool")):
        assert not allowed(of(one).publish, f"{subjects.inbox('one', other)}.x.1")
        assert not allowed(of(one).publish, subjects.mailbox("one", other, "a-1"))
