"""Asking again: which failures are waited out, and when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from xpod.common import insisting
from xpod.common.insisting import News, insist
from xpod_runtime.errors import DeadlineExceeded, Disconnected, NoResponders, RemoteError, XpodError
from xpod_runtime.testing import LIMIT

Said = str | XpodError | None
"""An answer, a failure, or None for silence until the next question."""


class Asked:
    """Answers one question after the other with `script`; the last entry is for all that follow."""

    def __init__(self, *script: Said) -> None:
        self.script = list(script)
        self.questions = 0

    async def __call__(self, left: float) -> str:
        assert 0 < left <= LIMIT
        said = self.script[min(self.questions, len(self.script) - 1)]
        self.questions += 1
        if said is None:
            try:
                async with asyncio.timeout(left):
                    await asyncio.Event().wait()
            except TimeoutError:
                raise DeadlineExceeded("no answer") from None
        if isinstance(said, XpodError):
            raise said
        assert said is not None
        return said


async def insisted(asked: Asked, timeout: float = LIMIT, there: Callable[[], bool] = lambda: True) -> str:
    return await insist(asked, timeout=timeout, news=News(), there=there)


LOST, NOBODY = Disconnected("lost"), NoResponders("nobody")


@pytest.mark.parametrize(
    ("script", "questions"),
    [(["yes"], 1), ([None, "yes"], 2), ([LOST, NOBODY, "yes"], 3), ([None, LOST, "yes"], 3)],
)
async def test_questions_until_the_answer(script: list[Said], questions: int) -> None:
    asked = Asked(*script)
    assert await insisted(asked) == "yes"
    assert asked.questions == questions


async def test_the_first_question_may_be_answered_after_the_second_was_said() -> None:
    answers: list[asyncio.Future[str]] = []

    async def ask(left: float) -> str:
        answers.append(asyncio.get_running_loop().create_future())
        if len(answers) == 2:
            answers[0].set_result("to the first")
        return await answers[-1]

    assert await insist(ask, timeout=LIMIT, news=News(), there=lambda: True) == "to the first"
    assert answers[1].cancelled()


@pytest.mark.parametrize(
    ("script", "timeout", "error"),
    [
        ([None], 0.1, DeadlineExceeded),
        ([NOBODY], 0.1, NoResponders),
        ([LOST], 0.1, Disconnected),
        ([RemoteError("full", "busy")], LIMIT, RemoteError),
        (["yes"], 0.0, DeadlineExceeded),
    ],
)
async def test_when_there_is_no_answer(script: list[Said], timeout: float, error: type[XpodError]) -> None:
    with pytest.raises(error):
        await insisted(Asked(*script), timeout)


async def test_nobody_listens_and_nobody_should_be_there() -> None:
    asked = Asked(NOBODY, "yes")
    with pytest.raises(NoResponders):
        await insisted(asked, there=lambda: False)
    assert asked.questions == 1


async def test_who_falls_meanwhile_is_not_waited_for() -> None:
    news, asked = News(), Asked(None)
    waiting = asyncio.create_task(insist(asked, timeout=LIMIT, news=news, there=lambda: True))
    await asyncio.sleep(0)
    for _ in range(2):
        news.falls(NoResponders("it is down"))
    async with asyncio.timeout(LIMIT / 2):
        with pytest.raises(NoResponders, match="it is down"):
            await waiting


async def test_who_comes_back_is_asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insisting, "AGAIN_SECONDS", LIMIT)
    news = News()
    questions: asyncio.Queue[asyncio.Future[str]] = asyncio.Queue()

    async def ask(left: float) -> str:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        questions.put_nowait(answer)
        return await answer

    waiting = asyncio.create_task(insist(ask, timeout=LIMIT, news=news, there=lambda: True))
    async with asyncio.timeout(LIMIT / 2):
        for _ in range(2):
            await questions.get()
            for _ in range(2):
                news.returns()
        (await questions.get()).set_result("yes")
        assert await waiting == "yes"
    assert questions.empty()
