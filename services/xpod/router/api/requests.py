"""What a client may ask for, and in which words.

Knows: the parameters of both completion endpoints, their types and ranges. Every parameter that is not here, or
that is known to OpenAI or vLLM but not supported and not at its neutral value, is refused by name.
Does not know: the model, its vocabulary or its context length.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any

from pydantic import Field

from xpod.router.api.grammar import Guided
from xpod.router.api.messages import ChatMessage
from xpod.router.api.strict import Strict, Utf8
from xpod.router.api.tools import Tools

StopText = Annotated[Utf8, Field(min_length=1)]
StopTexts = Annotated[list[StopText], Field(max_length=16)]
Bias = Annotated[float, Field(ge=-100, le=100)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
CacheSalt = Annotated[Utf8, Field(min_length=1, max_length=256)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]

# Parameters that others have and this API has not: harmless at these values (or null), refused at any other.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "add_generation_prompt": (True,),
    "add_special_tokens": (True,),
    "best_of": (1,),
    "continue_final_message": (False,),
    "detokenize": (True,),
    "function_call": ("none",),
    "functions": ([],),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1.0,),
    "modalities": (["text"],),
    "parallel_tool_calls": (True,),
    "service_tier": ("auto", "default"),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "use_beam_search": (False,),
}
_NEUTRAL |= dict.fromkeys(
    (
        *(
            "audio",
            "guided_choice",
            "guided_grammar",
            "guided_json",
            "guided_regex",
            "metadata",
            "moderation",
        ),
        *(
            "prediction",
            "prompt_cache_options",
            "prompt_cache_retention",
            "prompt_logprobs",
        ),
        *(
            "reasoning_effort",
            "safety_identifier",
            "truncate_prompt_tokens",
            "verbosity",
        ),
        "web_search_options",
    ),
    (),
)


class StreamOptions(Strict):
    """How a stream reports usage."""

    neutral = {"include_obfuscation": (False,)}
    include_usage: bool = False
    continuous_usage_stats: bool = False


class Sampled(Strict):
    """What every request for tokens may say: how they are drawn, and whose they are."""

    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    logit_bias: dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Bias] = {}
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: StopText | StopTexts | None = None
    stop_token_ids: list[TokenId] = []
    user: Utf8 | None = None
    prompt_cache_key: Utf8 | None = None
    cache_salt: CacheSalt | None = None
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)] = 0
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    return_token_ids: bool = False
    timeout: Annotated[float, Field(gt=0)] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class GenerationRequest(Sampled, Guided, ABC):
    """What both completion endpoints share."""

    neutral = _NEUTRAL
    model: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=128)] = 1
    max_tokens: Annotated[int, Field(ge=1)] | None = None

    @property
    @abstractmethod
    def alternatives(self) -> int:
        """How many alternatives to report beside each token; -1 for no logprobs at all."""

    @property
    def token_limit(self) -> int | None:
        return self.max_tokens


class CompletionRequest(GenerationRequest):
    """The body of /v1/completions."""

    prompt: Utf8 | list[TokenId] | list[Utf8] | list[list[TokenId]]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool = False

    @property
    def alternatives(self) -> int:
        return -1 if self.logprobs is None else self.logprobs


class ChatRequest(GenerationRequest, Tools):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    chat_template_kwargs: dict[str, Any] = {}

    @property
    def alternatives(self) -> int:
        return (self.top_logprobs or 0) if self.logprobs else -1

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens
