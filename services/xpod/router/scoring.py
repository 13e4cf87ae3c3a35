"""How likely the tokens of a prompt are: a prefill worker is asked, and another one where that one is lost.

Knows: that prompts to be scored wait for their turn like all others, and that whoever scores one says the same.
Does not know: how it is computed.
"""

from __future__ import annotations

import asyncio
import secrets
import time

import structlog

from xpod.router.api.engine_protocol import Affinity, Score, SessionError
from xpod.router.session import FINAL_CODES
from xpod.router.surroundings import Surroundings
from xpod_proto import CancelSession, PromptScores, ScorePrompt, Tensor, subjects
from xpod_runtime.errors import XpodError

log = structlog.get_logger(__name__)
TRIES = 5
PAUSE_SECONDS = 0.05


async def scores(around: Surroundings, prompt: Tensor, alternatives: int, ties: Affinity) -> list[Score]:
    """Of each token of `prompt` (u32 `[T]`) but the first. Raises SessionError."""
    through = around.admission.enter(ties.tenant, prompt.shape[0], ties.priority)
    id = f"p{secrets.token_hex(12)}"
    question = ScorePrompt(id, prompt, alternatives, ties.salt, ties.tenant, ties.priority)
    try:
        async with asyncio.timeout(around.patience.queue):
            await through.granted()
            return _read(await _answer(around, question))
    except TimeoutError:
        raise SessionError("queue_timeout", "the prompt was not scored in time") from None
    finally:
        through.leave()


async def _answer(around: Surroundings, question: ScorePrompt) -> PromptScores:
    avoid: set[str] = set()
    reason, failures, served = "no prefill worker is there", 0, time.monotonic()
    while failures < TRIES:
        place = around.placing.prefill(question.prompt, question.salt, "", avoid)
        if place is None:
            if time.monotonic() - served > around.patience.place:
                raise SessionError("no_worker", reason)
            avoid.clear()
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        worker, served = place.member.name, time.monotonic()
        around.placing.sends(place)
        try:
            reply = await around.view.request(
                around.bus, "prefill", worker, question, timeout=around.patience.queue
            )
        except asyncio.CancelledError:
            subject = subjects.mailbox(around.pod, "prefill", worker)
            await around.bus.publish(subject, CancelSession(question.session, 0))
            raise
        except XpodError as error:
            log.warning("a prompt was not scored", worker=worker, code=error.code, error=str(error))
            if error.code in FINAL_CODES:
                raise SessionError(error.code, str(error)) from error
            reason = f"{worker}: {error}"
            avoid.add(worker)
            failures += 1
            continue
        if isinstance(reply, PromptScores):
            return reply
        failures += 1
    raise SessionError("worker_lost", f"gave up after {failures} failures: {reason}")


def _read(reply: PromptScores) -> list[Score]:
    rows = zip(reply.logprobs.tolist(), reply.tokens.tolist(), reply.tops.tolist(), strict=True)
    return [Score(logprob, tuple(zip(tokens, tops, strict=True))) for logprob, tokens, tops in rows]
