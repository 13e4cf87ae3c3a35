"""Holds conversations with a server, all at the same time.

Knows: a turn's prompt is all that was said; a conversation whose turn failed is over, since nobody knows the answer.
Does not know: which figures come of it, or what happens to the server meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xpod.cli.bench.conversation import Conversation
from xpod.cli.bench.load import Failure
from xpod.cli.bench.talk import Talk
from xpod.cli.bench.trace import Trace
from xpod.cli.bench.workload import Job


@dataclass(frozen=True, slots=True)
class Turn:
    """A request that has ended."""

    conversation: int
    number: int
    asked_tokens: int
    trace: Trace
    failure: Failure | None = None

    @property
    def prompt_tokens(self) -> int:
        return int(self.trace.usage.get("prompt_tokens") or self.asked_tokens)

    @property
    def computed_tokens(self) -> int:
        """Of the prompt."""
        return self.prompt_tokens - self.trace.cached_tokens


def _nobody(turn: Turn) -> None:
    """Is told of it."""


class TurnsLoad:
    """`turns` grows while requests end, and can be read at any time; `tell` hears of each one."""

    def __init__(self, talk: Talk, tell: Callable[[Turn], None] = _nobody) -> None:
        self.turns: list[Turn] = []
        self._talk, self._tell = talk, tell

    async def run(self, conversations: Sequence[Conversation]) -> list[Turn]:
        """Conversation i asks router i, modulo their number, in every turn."""
        async with asyncio.TaskGroup() as group:
            for conversation in conversations:
                group.create_task(self._hold(conversation))
        return self.turns

    async def _hold(self, conversation: Conversation) -> None:
        answers: list[list[int]] = []
        for seconds in conversation.thinks:
            if seconds:
                await asyncio.sleep(seconds)
            turn = await self._turn(conversation, answers)
            self.turns.append(turn)
            self._tell(turn)
            if turn.failure is not None:
                return
            answers.append(turn.trace.tokens)

    async def _turn(self, conversation: Conversation, answers: Sequence[Sequence[int]]) -> Turn:
        prompt = conversation.prompt(answers)
        job = Job(conversation.index, prompt, len(prompt), conversation.answer_tokens, conversation.name)
        trace, failure = await self._talk.ask(job)
        return Turn(conversation.index, len(answers), len(prompt), trace, failure)
