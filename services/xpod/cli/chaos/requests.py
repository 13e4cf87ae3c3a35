"""What the streams of a drill ask: requests of every kind that a replay can get wrong.

Pure: a function of how many there are and of a seed. Half of them are `cold`: no cache knows their prompts.
"""

from __future__ import annotations

import random
from typing import Any

Body = dict[str, Any]

MAX_TOKENS = 96
COLD = "cold"
WORDS = """
    def class return import for while if else self value index token block shard expert router stream batch queue
    worker name list dict set tuple str int float bytes none true false try except with as lambda yield
""".split()  # noqa: SIM905
SAMPLERS: tuple[Body, ...] = (
    {"temperature": 0.0},
    {"temperature": 1.0, "top_p": 0.9},
    {"temperature": 0.8, "top_k": 20, "presence_penalty": 0.5},
    {"temperature": 0.0, "repetition_penalty": 1.2},
    {"temperature": 1.2, "min_p": 0.05, "frequency_penalty": 0.4},
    {"temperature": 0.7, "logit_bias": {"100": 2.0, "200": -5.0}},
    {"temperature": 0.0, "stop": ["\n\n\n\n"]},
    {"temperature": 1.0, "seed": 7},
)


def requests(count: int, seed: int) -> list[Body]:
    """`count` different bodies for /v1/completions; half of the prompts are long, half are short."""
    made = []
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        words = rng.choices(WORDS, k=300 if number % 2 else 30)
        made.append(
            {
                "prompt": f"# {number}\n" + " ".join(words),
                "max_tokens": MAX_TOKENS,
                "seed": rng.getrandbits(53),
                "logprobs": 0,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
                "return_token_ids": True,
                **({"cache_salt": COLD} if number // 2 % 2 else {}),
                **SAMPLERS[number % len(SAMPLERS)],
            }
        )
    return made


def cold(body: Body, salt: str) -> Body:
    """A body as it is sent: one that is to find nothing has a salt that nobody used before."""
    return {**body, "cache_salt": salt} if "cache_salt" in body else body
