"""Two views in, one out."""

import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from xpod.cli.membership import pod_status
from xpod.cli.process import ProcessRef, ref_of, send
from xpod.cli.state import MemberState, PodState
from xpod.cli.view import age, launched_table, members_table, placement_line

NOW = 1_800_000_000.0
ALIVE = ref_of(os.getpid())
DEAD = ProcessRef(ALIVE.pid, "ticks:1")


def told(state: str = "up", **detail: Any) -> dict[str, Any]:
    members = [
        {
            "id": "decode-0",
            "kind": "decode",
            "pid": 7,
            "host": "h",
            "state": state,
            "since": NOW - 5.0,
            "detail": detail,
        }
    ]
    placement = {"epoch": 2, "experts": {"0": {"0": ["expert-0"], "1": ["expert-0", "expert-1"]}}}
    return {
        "pod": "pod",
        "model": "m",
        "ready": True,
        "members": members,
        "placement": placement,
        "endpoints": ["u"],
    }


def launched(process: ProcessRef | None, state: str = "up", kind: str = "decode", **more: Any) -> PodState:
    member = MemberState(f"{kind}-0", kind, process, state, NOW - 60, **more)
    return PodState("pod", "/m", "/d", ALIVE, ["http://h:1"], [], "ready", "", [member])


@pytest.mark.parametrize(
    ("view", "process", "state", "expected"),
    [
        (told("up"), ALIVE, "up", "up"),
        (told("suspect"), ALIVE, "up", "suspect"),
        (told("starting"), ALIVE, "up", "suspect"),
        (told("up"), ALIVE, "draining", "draining"),
        (told("up"), DEAD, "up", "down"),
        (told("up"), None, "down", "down"),
        (None, ALIVE, "up", "suspect"),
        (None, None, "down", "down"),
    ],
)
def test_who_is_believed(
    view: dict[str, Any] | None, process: ProcessRef | None, state: str, expected: str
) -> None:
    (member,) = pod_status(view, launched(process, state))["members"]
    assert member["state"] == expected


def test_a_nats_node_is_up_while_it_lives() -> None:
    members = pod_status(told(), launched(ALIVE, kind="nats"))["members"]
    assert {each["id"]: each["state"] for each in members} == {"nats-0": "up", "decode-0": "up"}


def test_all_that_scripts_rely_on() -> None:
    state = launched(ALIVE, restarts=2, last_exit="killed by SIGKILL")
    assert pod_status(told(load=1), state) == {
        "pod": "pod",
        "model": "m",
        "ready": True,
        "members": [
            {
                "id": "decode-0",
                "kind": "decode",
                "pid": ALIVE.pid,
                "host": "h",
                "state": "up",
                "since": NOW - 5.0,
                "detail": {"load": 1, "restarts": 2, "last_exit": "killed by SIGKILL"},
            }
        ],
        "placement": told()["placement"],
        "endpoints": ["http://h:1"],
    }


def test_a_pod_elsewhere_is_what_its_router_says() -> None:
    status = pod_status(told(), None)
    assert (status["endpoints"], [each["pid"] for each in status["members"]]) == (["u"], [7])


def test_a_pod_without_a_router_is_not_ready() -> None:
    status = pod_status(None, launched(None, "down", note="it failed"))
    assert (status["ready"], status["placement"]) == (False, {"epoch": 0, "experts": {}})
    assert status["members"][0]["detail"] == {"note": "it failed"}
    assert status["members"][0]["pid"] is None


@pytest.fixture
def held() -> Iterator[ProcessRef]:
    with subprocess.Popen(["sleep", "600"]) as process:
        ref = ref_of(process.pid)
        send(ref, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        yield ref
        process.kill()


def test_a_member_that_is_held_is_suspect(held: ProcessRef) -> None:
    (member,) = pod_status(told(), launched(held))["members"]
    assert (member["state"], member["detail"]["note"]) == ("suspect", "held by SIGSTOP")


def test_tables_show_who_is_there() -> None:
    console = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    state = launched(ALIVE, restarts=2, last_exit="killed by SIGKILL", note="a note")
    console.print(members_table(pod_status(told(model="x", load=0.123456), state)["members"], NOW))
    console.print(launched_table(state, NOW))
    console.print(placement_line(told()["placement"]))
    text = console.export_text()
    assert "load 0.1235, restarts 2" in text
    assert "model x" not in text
    assert "1 min" in text
    assert "a note" in text
    assert "placement epoch 2: expert-0 holds 2, expert-1 holds 1" in text
    console.file.close()


@pytest.mark.parametrize(
    ("since", "words"),
    [
        (NOW - 3, "3 s"),
        (NOW - 120, "2 min"),
        (NOW - 7200, "2 h"),
        (NOW - 200000, "2 d"),
        ("2027-01-15T07:59:57+00:00", "3 s"),
        ("never", "never"),
    ],
)
def test_ages(since: object, words: str) -> None:
    assert age(since, NOW) == words
