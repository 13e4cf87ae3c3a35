"""Events of a session, and a short generation that its tests tell in tokens."""

from __future__ import annotations

from collections.abc import Callable

from xpod_policy.session import Instruction, Session, Token

Event = Callable[[Session], list[Instruction]]
Story = list[tuple[Event, list[Instruction]]]
LENGTH = 5
REASONS = [""] * (LENGTH - 1) + ["length"]
TRUTH = [Token(i, 100 + i, -0.5 * i, finish=REASONS[i], cached=0 if i else 32) for i in range(LENGTH)]
T0, T1, T2, T3, LAST = TRUTH
WRONG = Token(1, 999, -0.5)


def assigned(epoch: int, worker: str) -> Event:
    return lambda session: session.assigned(epoch, worker)


def unplaced(epoch: int) -> Event:
    return lambda session: session.unplaced(epoch, "no_worker", "nobody has room")


def prefilled(epoch: int, first: Token | None = None) -> Event:
    return lambda session: session.prefill_done(epoch, first or T0)


def token(which: Token) -> Event:
    return lambda session: session.token(which)


def lost(worker: str) -> Event:
    return lambda session: session.worker_lost(worker, "silence")


def failed(epoch: int, code: str, worker: str = "p1") -> Event:
    return lambda session: session.worker_failed(epoch, worker, code, "why")
