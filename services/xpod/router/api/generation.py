"""All choices of one request, opened together, run together, let go together.

Knows: sessions and choices. Does not know: JSON, SSE, or which endpoint asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from xpod.router.api.allowance import Allowance
from xpod.router.api.choice import Choice, Emit
from xpod.router.api.context import Api
from xpod.router.api.engine_protocol import Affinity, Claim, SessionError
from xpod.router.api.errors import bad_request, of_engine
from xpod.router.api.idempotency import Key, digest_of
from xpod.router.api.prompts import Prompt
from xpod.router.api.request_trace import request_trace
from xpod.router.api.requests import GenerationRequest
from xpod.router.api.resume import Place
from xpod.router.api.sampling import base_seed, seed_of, spec_of, token_budget, with_defaults
from xpod.router.api.stops import StopMatcher
from xpod.router.api.tool_calls import Described, reader_of
from xpod_proto import SamplingSpec
from xpod_runtime.errors import XpodError


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that was found valid, its prompts as tokens, and when it arrived on the metrics' clock.

    `place` is where an earlier stream of the same request ended too early; with several choices there is none.
    `key` names the request, so that it can be repeated. `affinity` is that of all its choices; `grammar` says what they
    have to be like. They may call `functions`; `scored` prompts are told how likely they are. `allowance`
    bounds what its key may ask for.
    """

    api: Api
    request: GenerationRequest
    prompts: list[Prompt]
    arrived: float
    place: Place | None = None
    key: Key | None = None
    affinity: Affinity = field(default_factory=Affinity)
    grammar: str = ""
    functions: Sequence[Described] = ()
    allowance: Allowance | None = None
    scored: bool = False

    @property
    def time_left(self) -> float | None:
        """Seconds until the request is of no use to its client any more; None: it said nothing of that."""
        timeout = self.request.timeout
        return None if timeout is None else self.arrived + timeout - self.api.metrics.clock()

    @property
    def seed(self) -> int | None:
        """What every try of this request draws from; None: nobody said."""
        if self.resumed is not None:
            return self.resumed.seed
        if self.request.seed is None and self.key is not None:
            return self.key.seed
        return self.request.seed

    def claim(self, choice: int) -> Claim | None:
        """The session of that choice, if there may be one already."""
        start = 0 if self.resumed is None else self.resumed.index + 1
        if self.key is not None:
            return Claim(self.key.session(choice), digest_of(self.request), start, lasting=True)
        return None if self.resumed is None else Claim(self.resumed.session, start=start)

    @property
    def resumed(self) -> Place | None:
        """The place to go on from."""
        single = self.request.stream and len(self.prompts) * self.request.n == 1
        return self.place if single else None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of a request so far; a prompt counts once, however many choices share it."""

    prompt: int
    completion: int
    cached: int

    def body(self) -> dict[str, object]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


class Generation:
    """Choice i answers prompt i // n. Whoever makes one closes it, whatever happens in between."""

    def __init__(self, ask: Ask) -> None:
        self.choices: list[Choice] = []
        self.seed = 0
        self._ask = ask
        self._reason = "abort"

    async def open(self) -> None:
        """Open a session for every choice. Raises ApiError; what is open by then is for `close`."""
        limit = self._ask.api.settings.max_choices
        if len(self._ask.prompts) * self._ask.request.n > limit:
            raise bad_request(f"more than {limit} choices in one request", "n")
        plan = [(prompt, spec) for prompt in self._ask.prompts for spec in _specs(self._ask, prompt)]
        self.seed = plan[0][1].seed
        request_trace().prepared()
        if self._ask.allowance is not None:
            self._ask.allowance.ask(sum(len(prompt.ids) for prompt in self._ask.prompts))
        try:
            if self._ask.scored and self._ask.resumed is None:
                await self._score()
            for index, (prompt, spec) in enumerate(plan):
                self.choices.append(await _open(self._ask, prompt, spec, index))
        except XpodError as error:
            self._reason = "error"
            raise of_engine(error) from error
        finally:
            tokens = sum(len(prompt.ids) for prompt in self._ask.prompts)
            request_trace().opened(self.choices, self._ask.api.served(self._ask.request.model), tokens)

    async def _score(self) -> None:
        """Have all prompts told how likely they are."""
        engine, ask = self._ask.api.engine, self._ask
        asked = (
            engine.scores(list(each.ids), ask.request.alternatives, ask.affinity) for each in ask.prompts
        )
        try:
            async with asyncio.timeout(ask.time_left):
                found = await asyncio.gather(*asked)
        except TimeoutError:
            raise self._too_late() from None
        for prompt, scores in zip(ask.prompts, found, strict=True):
            prompt.scores[:] = scores

    def _too_late(self) -> SessionError:
        return SessionError("deadline_exceeded", f"not done within {self._ask.request.timeout:g} s")

    async def run(self, emit: Emit) -> None:
        """Emit the pieces of all choices as they come. Raises the first failure; cancels whatever is left."""
        try:
            async with asyncio.timeout(self._ask.time_left), asyncio.TaskGroup() as group:
                for choice in self.choices:
                    group.create_task(choice.run(emit))
        except TimeoutError:
            raise self._too_late() from None
        except ExceptionGroup as failures:
            self._reason = "error"
            raise failures.exceptions[0] from None
        finally:
            await self.close()

    async def close(self) -> None:
        """Let go of every choice that has not finished. Idempotent."""
        for choice in self.choices:
            await choice.close(self._reason)

    def place(self, index: int) -> Place:
        """Token `index` of the only choice."""
        return Place(self.choices[0].session.id, self.seed, index)

    @property
    def attached(self) -> bool:
        """Is this the answer to an earlier request?"""
        return all(choice.session.attached for choice in self.choices)

    def usage(self) -> Usage:
        per_prompt = self.choices[:: self._ask.request.n]
        cached = sum(choice.session.cached_tokens for choice in per_prompt)
        return Usage(
            sum(len(prompt.ids) for prompt in self._ask.prompts),
            sum(choice.count for choice in self.choices),
            cached,
        )

    def extension(self) -> dict[str, object]:
        """The answer's `xpod` object; `seed` is that of the first choice."""
        ids = [choice.session.id for choice in self.choices]
        recoveries = sum(choice.session.recoveries for choice in self.choices)
        body: dict[str, object] = {"session": ids[0], "recoveries": recoveries, "seed": self.seed}
        return body if len(ids) == 1 else body | {"sessions": ids}


def _specs(ask: Ask, prompt: Prompt) -> list[SamplingSpec]:
    budget = token_budget(ask.request, len(prompt.ids), ask.api.engine)
    base = base_seed(ask.seed)
    request = with_defaults(ask.request, ask.api.settings.sampling_defaults)
    specs = (spec_of(request, budget, seed_of(base, turn)) for turn in range(request.n))
    return [replace(spec, grammar=ask.grammar) for spec in specs]


async def _open(ask: Ask, prompt: Prompt, spec: SamplingSpec, index: int) -> Choice:
    api = ask.api
    session = await api.engine.open(list(prompt.ids), spec, ask.claim(index), ask.affinity)
    return Choice(
        index,
        session=session,
        stream=api.text.stream(),
        stops=StopMatcher(ask.request.stops),
        min_tokens=ask.request.min_tokens,
        meter=api.metrics.meter(
            len(prompt.ids),
            spec.max_tokens,
            ask.arrived,
            None if ask.allowance is None else ask.allowance.spend,
        ),
        reader=reader_of(api.text.call_form, session.id, ask.functions) if ask.functions else None,
    )
