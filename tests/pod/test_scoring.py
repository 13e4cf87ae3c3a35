"""How likely a prompt's tokens are: the bits that generating them gives, whatever is cached, however it is cut."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import openai
import pytest

from pod.harness import LIMIT, Pod, Shape, running_pod, until_empty, worker
from xpod.prefill.worker import Prefill
from xpod.router.api.engine_protocol import Score, SessionError
from xpod_proto import PromptScores, SamplingSpec, ScorePrompt, Tensor
from xpod_runtime.local_bus import LocalFabric

PROMPT = [(7 * number) % 250 for number in range(50)]
SAMPLING = SamplingSpec(seed=3, max_tokens=40, temperature=1.0, ignore_eos=True, logprobs=3)


async def scores(pod: Pod, prompt: Sequence[int], alternatives: int = 3) -> list[Score]:
    async with asyncio.timeout(LIMIT):
        return await pod.router.engine.scores(list(prompt), alternatives)


async def said(pod: Pod) -> tuple[list[int], list[Score]]:
    """A prompt with what followed it, and how likely each token was when it was drawn."""
    outputs = await pod.generate(PROMPT, SAMPLING)
    return [*PROMPT, *(output.token for output in outputs)], [Score(o.logprob, o.top) for o in outputs]


async def test_scores_have_the_bits_of_tokens_that_are_generated(oracle_dirs: dict[str, Path]) -> None:
    """All of it is cached by then; the other way round, what a score computed serves whoever comes next."""
    async with running_pod(LocalFabric(), oracle_dirs["plain"]) as pod:
        tokens, drawn = await said(pod)
        found = await scores(pod, tokens)
        assert len(found) == len(tokens) - 1
        assert found[len(PROMPT) - 1 :] == drawn
        assert [each.top for each in await scores(pod, tokens, 0)] == [()] * len(found)
        assert await scores(pod, tokens[:1]) == []
        other = [5, *tokens]
        assert len(await scores(pod, other)) == len(tokens)
        session = await pod.router.engine.open([*other, 1], SAMPLING)
        assert len([output async for output in session]) == SAMPLING.max_tokens
        assert session.cached_tokens >= len(other) // 16 * 16


async def test_however_the_prompt_is_cut(oracle_dirs: dict[str, Path]) -> None:
    found = []
    for tokens, alone in ((16, True), (64, False), (2048, False)):
        options = {"max_num_batched_tokens": tokens, "micro_batch_tokens": 8}
        async with running_pod(LocalFabric(), oracle_dirs["plain"], **options) as pod:
            prompts = [PROMPT * 3] if alone else [PROMPT * 3, PROMPT, PROMPT[::-1]]
            found.append((await asyncio.gather(*(scores(pod, prompt) for prompt in prompts)))[0])
    assert found[0] == found[1] == found[2]


async def test_another_worker_says_the_same_when_one_dies(oracle_dirs: dict[str, Path]) -> None:
    async with running_pod(LocalFabric(), oracle_dirs["plain"], Shape(prefill=2)) as pod:
        prompt = PROMPT * 20
        whole = await scores(pod, prompt)
        asking = asyncio.create_task(scores(pod, prompt))
        async with asyncio.timeout(LIMIT):
            while not (busy := [name for name in ("prefill-0", "prefill-1") if _works(pod, name)]):
                await pod.router.view.changed(0.001)
        await pod.crash(busy[0])
        assert await asking == whole


def _works(pod: Pod, name: str) -> bool:
    one = worker(pod, name)
    assert isinstance(one, Prefill)
    return bool(one.engine.sequences)


async def test_a_question_that_comes_again_is_answered_and_not_computed_again(
    oracle_dirs: dict[str, Path],
) -> None:
    async with running_pod(LocalFabric(), oracle_dirs["plain"]) as pod:
        router, prefill = pod.router, worker(pod, "prefill-0")
        question = ScorePrompt("p1", Tensor.of_tokens(PROMPT), 2)

        async def ask() -> PromptScores:
            answer = await router.view.request(router.data, "prefill", "prefill-0", question, timeout=LIMIT)
            assert isinstance(answer, PromptScores)
            return answer

        answers = await asyncio.gather(ask(), ask())
        await until_empty(prefill, LIMIT)
        assert {answer.logprobs.data for answer in (*answers, await ask())} == {answers[0].logprobs.data}
        assert not prefill.engine.sequences, "it was remembered"


async def test_who_leaves_frees_the_worker(oracle_dirs: dict[str, Path]) -> None:
    async with running_pod(LocalFabric(), oracle_dirs["plain"]) as pod:
        asking = asyncio.create_task(scores(pod, PROMPT * 20))
        async with asyncio.timeout(LIMIT):
            while not _works(pod, "prefill-0"):
                await pod.router.view.changed(0.001)
        asking.cancel()
        await until_empty(worker(pod, "prefill-0"), LIMIT)
        assert not pod.router.engine._around.admission.waiting


async def test_a_prompt_that_no_worker_can_hold(oracle_dirs: dict[str, Path]) -> None:
    async with running_pod(LocalFabric(), oracle_dirs["plain"]) as pod:
        with pytest.raises(SessionError) as caught:
            await scores(pod, PROMPT * 100)
        assert caught.value.code == "context_length_exceeded"


async def test_over_http(oracle_dirs: dict[str, Path]) -> None:
    """As tools do that measure how well a model knows a text."""
    async with (
        running_pod(LocalFabric(), oracle_dirs["plain"]) as pod,
        openai.AsyncOpenAI(base_url=f"{pod.url()}/v1", api_key="any", max_retries=0) as client,
    ):
        model = (await client.models.list()).data[0].id
        answer = await client.completions.create(
            model=model, prompt=PROMPT, echo=True, logprobs=2, max_tokens=1
        )
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.token_logprobs is not None
        expected = [each.logprob for each in await scores(pod, PROMPT)]
        assert logprobs.token_logprobs[: len(PROMPT)] == [None, *expected]
        assert len(logprobs.token_logprobs) == len(PROMPT) + 1
