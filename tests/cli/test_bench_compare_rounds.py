"""Contenders in turn: their order, what they are asked, and a peer in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from cli.conftest import ROOT
from xpod.cli.bench.compare.cases import WARMUP, Case, Prompts
from xpod.cli.bench.compare.disturbance import Disturbance
from xpod.cli.bench.compare.memory import pss
from xpod.cli.bench.compare.peer import BATCH, IN_TURN, Peer
from xpod.cli.bench.compare.rounds import Found, Rounds, measure
from xpod.cli.bench.compare.taken import Taken
from xpod.cli.errors import CliError

CASES = (Case("prefill", 2, 4, 1), Case("decode-2", 2, 4, 3))


@dataclass
class Fake:
    """Remembers what it was asked; `log` is shared, so that it shows who runs beside whom."""

    name: str
    log: list[str]
    asked: list[tuple[Case, Prompts]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=lambda: {"threads": 1})
    interrupted_at: int = -1

    def check(self) -> None:
        self.log.append(f"check {self.name}")

    @contextmanager
    def running(self) -> Iterator[Fake]:
        self.log.append(f"start {self.name}")
        try:
            yield self
        finally:
            self.log.append(f"stop {self.name}")

    def take(self, case: Case, prompts: Prompts) -> Taken:
        if len(self.asked) == self.interrupted_at:
            raise KeyboardInterrupt
        self.asked.append((case, prompts))
        return Taken(case, 1.0)

    def processes(self) -> list[tuple[str, int]]:
        return [(self.name, os.getpid())]


def test_one_at_a_time_and_another_one_first() -> None:
    log: list[str] = []
    found = Found()
    fakes = [Fake(name, log) for name in "abc"]
    measure(Rounds(fakes, CASES, 2, seed=1, vocab=100), found)
    assert log[:3] == ["check a", "check b", "check c"]
    assert log[3:] == [f"{what} {name}" for name in "abcbca" for what in ("start", "stop")]
    assert fakes[0].asked == fakes[1].asked == fakes[2].asked
    assert [case for case, _ in fakes[0].asked] == [*WARMUP, *CASES] * 2
    assert len({str(prompts) for _, prompts in fakes[0].asked}) == 8, "no prompts twice"
    assert len(found.runs) == 2 * 3 * 2
    if pss(os.getpid()) is not None:
        assert [set(each["pss_bytes"]) for each in found.memory] == [{name} for name in "abcbca"]
    assert found.contenders["c"] == {"threads": 1}


def test_what_was_found_before_an_interruption_is_kept() -> None:
    log: list[str] = []
    found = Found()
    with pytest.raises(KeyboardInterrupt):
        measure(Rounds([Fake("a", log), Fake("b", log, interrupted_at=3)], CASES, 1, 1, 100), found)
    assert [(run["contender"], run["case"]) for run in found.runs][-1] == ("b", "prefill")
    assert log[-1] == "stop b"


@pytest.fixture
def peer_modules(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Children find the tests' modules too."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), environment["PYTHONPATH"]]))


def fake_peer(kind: str) -> Peer:
    return Peer("fake", "cli.bench_peer", Path(kind), 3)


@pytest.mark.usefixtures("peer_modules")
def test_a_peer_answers_line_by_line_and_is_ended() -> None:
    with fake_peer("good").running() as session:
        assert session.facts == {"threads": 3}
        decoded = session.take(CASES[1], [[1] * 4] * 2)
        filled = session.take(CASES[0], [[1] * 4] * 2)
        ((kind, pid),) = session.processes()
        (child,) = psutil.Process().children()
    assert (kind, pid) == ("fake", child.pid)
    assert not child.is_running()
    assert (decoded.how, [len(stream.arrivals) for stream in decoded.streams]) == (BATCH, [3, 3])
    assert len(filled.streams) == 2
    assert {filled.how, *filled.facts["slower"]} == {BATCH, IN_TURN}
    assert filled.seconds <= min(filled.facts["slower"].values())


@pytest.mark.usefixtures("peer_modules")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("broken", "fake: ValueError: no such weights"),
        ("dying", "fake died: Segmentation error"),
        ("lazy", "fake: 2 tokens instead of 3"),
    ],
)
def test_a_peer_that_fails_says_why(kind: str, message: str) -> None:
    with pytest.raises(CliError, match=message), fake_peer(kind).running() as session:
        session.take(CASES[1], [[1] * 4] * 2)
    assert not psutil.Process().children()


def test_what_is_not_installed_is_named_before_anything_runs() -> None:
    peer = Peer("transformers", "xpod_model.peers.transformers", Path("m"), 1, needs="no_such_module")
    with pytest.raises(CliError, match=r"no_such_module is not installed \(pip install 'xpod\[bench\]'\)"):
        peer.check()


def test_what_is_ours_is_no_disturbance() -> None:
    ours = Disturbance([os.getpid()])
    cores = ours.cores()
    assert cores is None or cores >= 0
    assert Disturbance([]).cores() is None, "who belongs to it is not known"
    assert Disturbance([0x7FFFFFFF]).cores() is None, "who belongs to it is gone"
