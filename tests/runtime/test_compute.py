"""The compute thread: order, errors, cancellation, an event loop that stays free."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from xpod_runtime.compute import ComputeThread
from xpod_runtime.testing import LIMIT


@pytest_asyncio.fixture
async def compute() -> AsyncIterator[ComputeThread]:
    thread = ComputeThread("test")
    yield thread
    await thread.close()


async def test_work_runs_on_one_other_thread_in_order(compute: ComputeThread) -> None:
    order: list[int] = []

    def work(number: int, *, double: bool) -> tuple[int, int]:
        order.append(number)
        return (number * 2 if double else number), threading.get_ident()

    results = await asyncio.gather(*(compute.run(work, number, double=True) for number in range(20)))
    assert [value for value, _ in results] == [number * 2 for number in range(20)]
    assert order == list(range(20))
    assert {thread for _, thread in results} != {threading.get_ident()}
    assert len({thread for _, thread in results}) == 1
    assert compute.waiting == 0


async def test_errors_come_back(compute: ComputeThread) -> None:
    def fail(error: BaseException) -> None:
        raise error

    with pytest.raises(KeyError, match="x"):
        await compute.run(fail, KeyError("x"))
    with pytest.raises(RuntimeError, match="StopIteration"):
        await compute.run(fail, StopIteration())
    assert await compute.run(int, "7") == 7


async def test_the_loop_stays_free_while_work_runs(compute: ComputeThread) -> None:
    gate = threading.Event()
    running = asyncio.create_task(compute.run(gate.wait, LIMIT))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not running.done()
    gate.set()
    assert await running
    assert compute.busy_seconds > 0


async def test_a_cancelled_caller_skips_work_not_begun(compute: ComputeThread) -> None:
    gate = threading.Event()
    ran: list[str] = []
    first = asyncio.create_task(compute.run(gate.wait, LIMIT))
    second = asyncio.create_task(compute.run(ran.append, "second"))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.set()
    assert await first
    await compute.run(ran.append, "third")
    assert ran == ["third"]


async def test_close_finishes_what_was_handed_over() -> None:
    compute = ComputeThread("test")
    done: list[int] = []
    pending = asyncio.create_task(compute.run(done.append, 1))
    await asyncio.sleep(0)
    await compute.close()
    await pending
    await compute.close()
    assert done == [1]
    with pytest.raises(RuntimeError, match="closed"):
        await compute.run(done.append, 2)


async def test_the_initializer_runs_on_the_thread_first() -> None:
    seen: list[int] = []
    compute = ComputeThread("test", lambda: seen.append(threading.get_ident()))
    assert await compute.run(threading.get_ident) == seen[0]
    await compute.close()
