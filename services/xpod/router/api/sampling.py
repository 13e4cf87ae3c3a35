"""From a request to the sampling parameters of each session.

Knows: rules between parameters, and those that need the model's vocabulary and context length.
Does not know: text, HTTP, or how tokens are drawn.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from typing import TypeVar

from xpod.router.api.engine_protocol import Engine
from xpod.router.api.errors import bad_request
from xpod.router.api.requests import ChatRequest, CompletionRequest, GenerationRequest
from xpod_proto import SamplingSpec

R = TypeVar("R", bound=GenerationRequest)
SEED_BITS = 63
COMPLETION_DEFAULT = 16


def check(request: GenerationRequest, vocab_size: int) -> None:
    """Refuse what contradicts itself or names tokens that do not exist."""
    if request.stream_options is not None and not request.stream:
        raise bad_request("stream_options needs stream: true", "stream_options")
    if isinstance(request, ChatRequest):
        _check_chat(request)
    for param, ids in (
        ("logit_bias", map(int, request.logit_bias)),
        ("stop_token_ids", request.stop_token_ids),
    ):
        check_tokens(ids, vocab_size, param)


def check_tokens(ids: Iterable[int], vocab_size: int, param: str) -> None:
    """Refuse token ids outside the vocabulary."""
    for token in ids:
        if not 0 <= token < vocab_size:
            raise bad_request(f"{param}: token id {token} is outside the vocabulary of {vocab_size}", param)


def _check_chat(request: ChatRequest) -> None:
    if request.top_logprobs is not None and not request.logprobs:
        raise bad_request("top_logprobs needs logprobs: true", "top_logprobs")
    both = {request.max_tokens, request.max_completion_tokens} - {None}
    if len(both) > 1:
        raise bad_request("max_tokens and max_completion_tokens differ; send one of them", "max_tokens")


def token_budget(request: GenerationRequest, prompt_tokens: int, engine: Engine) -> int:
    """How many tokens this prompt may generate. Refuses what the context cannot hold."""
    rest = engine.max_model_len - prompt_tokens
    default = COMPLETION_DEFAULT if isinstance(request, CompletionRequest) else rest
    wanted = request.token_limit or max(1, min(default, rest))
    if wanted > rest:
        raise bad_request(
            f"this model's context is {engine.max_model_len} tokens; the request needs {prompt_tokens + wanted} "
            f"({prompt_tokens} in the prompt, {wanted} to generate)",
            "prompt" if isinstance(request, CompletionRequest) else "messages",
            "context_length_exceeded",
        )
    if request.min_tokens > wanted:
        raise bad_request(f"min_tokens is {request.min_tokens}, but max_tokens is {wanted}", "min_tokens")
    return wanted


def base_seed(seed: int | None) -> int:
    """The request's seed folded into 63 bits, or a fresh one."""
    return secrets.randbits(SEED_BITS) if seed is None else seed % (1 << SEED_BITS)


def seed_of(base: int, choice: int) -> int:
    """The seed of choice `choice`: the base itself for the first, derived from it for the others."""
    if choice == 0:
        return base
    digest = hashlib.blake2b(f"{base}/{choice}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - SEED_BITS)


def with_defaults(request: R, defaults: Mapping[str, float]) -> R:
    """The request with the model's own recommendations where the client said nothing."""
    unsaid = {name: value for name, value in defaults.items() if name not in request.model_fields_set}
    return request.model_copy(update=unsaid)


def spec_of(request: GenerationRequest, budget: int, seed: int) -> SamplingSpec:
    """The sampling parameters of one session."""
    return SamplingSpec(
        seed=seed,
        max_tokens=budget,
        temperature=float(request.temperature),
        top_p=float(request.top_p),
        top_k=max(0, int(request.top_k)),
        min_p=float(request.min_p),
        repetition_penalty=float(request.repetition_penalty),
        presence_penalty=float(request.presence_penalty),
        frequency_penalty=float(request.frequency_penalty),
        logit_bias=tuple((int(token), float(bias)) for token, bias in sorted(request.logit_bias.items())),
        min_tokens=request.min_tokens,
        ignore_eos=request.ignore_eos,
        stop_token_ids=tuple(request.stop_token_ids),
        logprobs=request.alternatives,
    )
