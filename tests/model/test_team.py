"""Threads that share a kernel's work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from xpod_model.kernels import kernels, machine


def test_who_needs_a_team_at_once_gets_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one would be forgotten, and its helpers would read memory that is used for something else by then."""
    own = kernels()
    assert own is not None
    both, made = threading.Barrier(2), []

    class Slow:
        def __init__(self, help: Callable[[int], None], size: int) -> None:
            made.append(size)
            with suppress(threading.BrokenBarrierError):
                both.wait(0.3)

    monkeypatch.setattr(machine, "Team", Slow)
    monkeypatch.setattr(own._machine, "_teams", {})
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(own._machine._team(2))) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert made == [2]
    assert found[0] is found[1]
