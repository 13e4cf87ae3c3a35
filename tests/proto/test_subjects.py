"""Every subject as it looks on the wire, and the ids that must not get there."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType

import pytest

from xpod_proto import DecodeError, subjects

TABLE: list[tuple[Callable[..., str], tuple[str, ...], str]] = [
    (subjects.mailbox, ("pod", "decode", "d-1"), "pod.v1.decode.d-1"),
    (subjects.calls, ("pod", "e-1"), "pod.v1.expert.e-1.calls"),
    (subjects.tokens, ("pod", "s_1"), "pod.v1.tokens.s_1"),
    (subjects.generate, ("pod",), "pod.v1.generate"),
    (subjects.hello, ("pod",), "pod.v1.hello"),
    (subjects.heartbeat, ("pod", "decode"), "pod.v1.heartbeat.decode"),
    (subjects.down, ("pod",), "pod.v1.down"),
    (subjects.holdings, ("pod",), "pod.v1.holdings"),
    (subjects.placement, ("pod",), "pod.v1.placement"),
    (subjects.kv, ("pod",), "pod.v1.kv"),
    (subjects.probe, ("pod", "d-1"), "pod.v1.probe.d-1"),
    (subjects.doubt, ("pod",), "pod.v1.doubt"),
    (subjects.running, ("pod",), "pod.v1.running"),
    (subjects.mailboxes, ("pod", "decode"), "pod.v1.decode.*"),
    (subjects.probes, ("pod",), "pod.v1.probe.*"),
    (subjects.all_calls, ("pod",), "pod.v1.expert.*.calls"),
    (subjects.all_tokens, ("pod",), "pod.v1.tokens.*"),
    (subjects.inbox, ("pod", "decode"), "_INBOX.pod.decode"),
    (subjects.inboxes, ("pod", "decode"), "_INBOX.pod.decode.>"),
    (subjects.sessions_bucket, ("pod",), "pod-sessions"),
    (subjects.responses_bucket, ("pod",), "pod-responses"),
    (subjects.shelf_bucket, ("pod",), "pod-pod"),
]
IDS = [function.__name__ for function, _, _ in TABLE]
REJECTED = ["", ".", "a.b", "*", ">", "a b", "a\n", "\n", "a\0", "é", "a" * 65, "$SYS", "a/b"]


@pytest.mark.parametrize(("function", "args", "subject"), TABLE, ids=IDS)
def test_subjects(function: Callable[..., str], args: tuple[str, ...], subject: str) -> None:
    assert function(*args) == subject


@pytest.mark.parametrize("bad", REJECTED)
@pytest.mark.parametrize(("function", "args", "subject"), TABLE, ids=IDS)
def test_bad_ids_are_rejected(
    function: Callable[..., str], args: tuple[str, ...], subject: str, bad: str
) -> None:
    for position in range(len(args)):
        with pytest.raises(ValueError, match="not a subject token"):
            function(*args[:position], bad, *args[position + 1 :])


@pytest.mark.parametrize("good", ["a", "A-z_9", "a" * 64])
def test_good_ids_are_kept(good: str) -> None:
    assert subjects.tokens(good, good) == f"{good}.v1.tokens.{good}"


def test_every_subject_function_is_in_the_table() -> None:
    public = {
        name
        for name, value in vars(subjects).items()
        if isinstance(value, FunctionType) and not name.startswith("_")
    }
    assert public == {*IDS, "check_token"}


@pytest.mark.parametrize("bad", REJECTED)
def test_a_name_in_a_message_is_checked(bad: str) -> None:
    subjects.check_token("d-1")
    with pytest.raises(DecodeError, match="not a name"):
        subjects.check_token(bad)
