"""Restart decisions as a table; the tree that carries them out."""

from __future__ import annotations

import asyncio

import pytest

from xpod_runtime.errors import RestartLimitExceeded
from xpod_runtime.intensity import Decision, Escalate, Intensity, Leave, Restart, RestartKind, RestartPolicy
from xpod_runtime.supervision import ChildSpec, TaskTree
from xpod_runtime.testing import LIMIT, Flag

POLICY = RestartPolicy(max_restarts=3, within=10.0, first_delay=0.1, max_delay=0.3)
QUICK = RestartPolicy(max_restarts=3, within=10.0, first_delay=0.0)
Ends = list[tuple[RestartKind, bool, float]]


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([("temporary", True, 0)], Leave()),
        ([("temporary", False, 0)], Leave()),
        ([("transient", False, 0)], Leave()),
        ([("transient", True, 0)], Restart(0.1)),
        ([("permanent", False, 0)], Restart(0.1)),
        ([("permanent", True, 0)], Restart(0.1)),
        ([("permanent", True, 0), ("permanent", True, 1)], Restart(0.2)),
        ([("permanent", True, 0), ("permanent", True, 1), ("permanent", True, 2)], Restart(0.3)),
        ([("permanent", True, t) for t in (0, 1, 2, 3)], Escalate(3)),
        ([("permanent", True, t) for t in (0, 1, 2, 10)], Restart(0.3)),
        ([("permanent", True, t) for t in (0, 1, 2, 12)], Restart(0.1)),
        ([("transient", False, t) for t in range(9)] + [("permanent", True, 9)], Restart(0.1)),
        ([("permanent", True, t) for t in (0, 1, 2)] + [("temporary", True, 3)], Leave()),
    ],
)
def test_decisions(ends: Ends, expected: Decision) -> None:
    intensity = Intensity(POLICY)
    decisions = [intensity.ended(kind, failed=failed, now=now) for kind, failed, now in ends]
    assert decisions[-1] == expected


class Child:
    """Fails as often as told, then runs for ever."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.starts = 0
        self.steady = Flag()
        self.cancelled = False

    async def __call__(self) -> None:
        self.starts += 1
        if self.starts <= self.failures:
            raise RuntimeError(f"failure {self.starts}")
        self.steady()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def test_a_child_is_restarted_and_the_others_go_on() -> None:
    tree, sick, well = TaskTree("tree", QUICK), Child(2), Child(0)
    tree.add(ChildSpec("sick", sick))
    tree.add(ChildSpec("well", well))
    running = asyncio.create_task(tree.run())
    await sick.steady.wait()
    assert (sick.starts, well.starts) == (3, 1)
    tree.stop()
    await running
    assert sick.cancelled
    assert well.cancelled


async def test_escalation_leaves_the_tree_and_ends_the_others() -> None:
    tree, hopeless, well = TaskTree("tree", QUICK), Child(99), Child(0)
    tree.add(ChildSpec("hopeless", hopeless))
    tree.add(ChildSpec("well", well))
    with pytest.raises(RestartLimitExceeded) as caught:
        await tree.run()
    assert str(caught.value) == "tree/hopeless was restarted 3 times and is given up: RuntimeError: failure 4"
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert well.cancelled


async def test_transient_and_temporary_children_may_end() -> None:
    tree, ended = TaskTree("tree", QUICK), asyncio.Queue[str]()

    async def end() -> None:
        await ended.put("ended")

    tree.add(ChildSpec("transient", end, "transient"))
    running = asyncio.create_task(tree.run())
    await asyncio.wait_for(ended.get(), LIMIT)
    late = tree.add(ChildSpec("temporary", end, "temporary"))
    await asyncio.wait_for(ended.get(), LIMIT)
    assert late.task is not None
    await late.task
    assert [child.spec.name for child in tree.children] == ["transient"]
    tree.stop()
    await running


async def test_the_tree_prints_as_a_table() -> None:
    tree, child = TaskTree("tree", QUICK), Child(1)
    tree.add(ChildSpec("sick", child))
    running = asyncio.create_task(tree.run())
    await child.steady.wait()
    assert str(tree).splitlines() == [
        "child  restart    state    restarts  last error",
        "sick   permanent  running  1         RuntimeError: failure 1",
    ]
    tree.stop()
    await running


async def test_a_child_that_swallows_a_cancellation_is_cancelled_again() -> None:
    """As a library does that waits with asyncio.wait_for when its answer comes in the same turn of the loop."""
    started, swallowed = asyncio.Event(), 0

    async def deaf() -> None:
        nonlocal swallowed
        while True:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 1:
                    raise

    tree = TaskTree("t")
    tree.add(ChildSpec("deaf", deaf))
    run = asyncio.create_task(tree.run())
    await started.wait()
    tree.stop()
    async with asyncio.timeout(5):
        await run
    assert swallowed == 2
