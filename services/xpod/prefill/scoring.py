"""Prompts whose tokens are to be scored: who asked, and what they are told.

Knows: that a question comes again until it is answered, also just after that. Does not know: how prompts are computed.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

import numpy as np

from xpod.attention.sequence import Sequence
from xpod_model.sampler import Sampled
from xpod_proto import PrefillTask, PromptScores, SamplingSpec, ScorePrompt, Tensor
from xpod_runtime.errors import XpodError

REMEMBERED = 16
NOTHING = SamplingSpec(seed=0, max_tokens=1, temperature=0.0)
"""Of what is generated behind the prompt."""


class NotScored(XpodError):
    """The worker gave it up; `code` says why."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Scoring:
    """The answers, by the id of their question."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, asyncio.Future[PromptScores]] = OrderedDict()

    @property
    def busy(self) -> bool:
        """Is any on its way?"""
        return any(not answer.done() for answer in self._answers.values())

    def expected(self, id: str) -> asyncio.Future[PromptScores] | None:
        """The answer that is on its way, or was given just now."""
        return self._answers.get(id)

    def expect(self, id: str) -> asyncio.Future[PromptScores]:
        """It is on its way."""
        answer: asyncio.Future[PromptScores] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may ask again
        self._answers[id] = answer
        return answer

    def scored(self, sequence: Sequence) -> None:
        """All of its prompt is computed."""
        answer = self._answers.get(sequence.id)
        if answer is not None and not answer.done() and sequence.scores is not None:
            answer.set_result(_told(sequence.id, sequence.scores.alternatives, sequence.scores.whole()))
        over = [id for id, each in self._answers.items() if each.done()]
        for id in over[:-REMEMBERED]:
            del self._answers[id]

    def fail(self, id: str, code: str, reason: str) -> None:
        """It is not."""
        answer = self._answers.pop(id, None)
        if answer is not None and not answer.done():
            answer.set_exception(NotScored(code, reason))


def task_of(question: ScorePrompt, member: str) -> PrefillTask:
    """The work behind a question; nobody hears of it but who asked."""
    return PrefillTask(
        question.session,
        0,
        member,
        question.prompt,
        NOTHING,
        question.salt,
        question.tenant,
        question.priority,
    )


def _told(id: str, alternatives: int, scores: list[Sampled]) -> PromptScores:
    tops = [score.top for score in scores]
    count = min((len(top) for top in tops), default=0) if alternatives > 0 else 0
    shape = (len(scores), count)
    return PromptScores(
        id,
        Tensor.of(np.array([score.logprob for score in scores], dtype="<f4")),
        Tensor.of(
            np.array([[token for token, _ in top[:count]] for top in tops], dtype="<u4").reshape(shape)
        ),
        Tensor.of(np.array([[lp for _, lp in top[:count]] for top in tops], dtype="<f4").reshape(shape)),
    )
