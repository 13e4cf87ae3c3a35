"""Many clients at once get exactly what each would get alone."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx

from model.oracle_models import VOCAB
from pod.harness import Shape, running_pod

CLIENTS, REQUESTS = 16, 200
SHAPE = Shape(expert=2, prefill=2, decode=2, mempool=2, router=2)


def bodies() -> list[dict[str, Any]]:
    """Mixed prompt and output lengths; some prompts share a prefix, some are repeated whole."""
    draw = random.Random(7)
    shared = [draw.randrange(256) for _ in range(40)]
    out = []
    for number in range(REQUESTS):
        prompt = [draw.randrange(256) for _ in range(draw.choice([1, 5, 16, 30, 70]))]
        if number % 4 == 0:
            prompt = shared[: draw.choice([16, 24, 40])] + prompt
        out.append({"prompt": prompt, "max_tokens": draw.choice([1, 2, 8, 17, 33])})
    return out


async def ask(client: httpx.AsyncClient, url: str, body: dict[str, Any]) -> tuple[list[int], list[float]]:
    """Token ids and logprobs of a greedy completion."""
    fixed = {"model": "plain", "temperature": 0, "ignore_eos": True, "return_token_ids": True, "logprobs": 1}
    reply = await client.post(f"{url}/v1/completions", json={**fixed, **body})
    assert reply.status_code == 200, reply.text
    choice = reply.json()["choices"][0]
    return choice["token_ids"], choice["logprobs"]["token_logprobs"]


async def test_answers_do_not_depend_on_company(nats: str, oracle_dirs: dict[str, Path]) -> None:
    asked = bodies()
    assert max(max(body["prompt"]) for body in asked) < VOCAB
    async with httpx.AsyncClient(timeout=60) as client:
        async with running_pod(
            nats, oracle_dirs["plain"], SHAPE, dtype="fp32", max_num_batched_tokens=32
        ) as pod:
            together: dict[int, tuple[list[int], list[float]]] = {}
            numbers = iter(range(REQUESTS))

            async def one_client(which: int) -> None:
                for number in numbers:
                    together[number] = await ask(client, pod.url(which % 2), asked[number])

            await asyncio.gather(*(one_client(which) for which in range(CLIENTS)))
        async with running_pod(nats, oracle_dirs["plain"], Shape(expert=1), dtype="fp32") as alone:
            for number, body in enumerate(asked):
                assert together[number] == await ask(client, alone.url(), body), f"request {number}"
    assert len(together) == REQUESTS
