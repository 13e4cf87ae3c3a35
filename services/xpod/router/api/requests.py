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
from xpod.router.api.strict import JsonObject, Several, Strict, Utf8, few
from xpod.router.api.tools import Tools

StopText = Annotated[Utf8, Field(min_length=1)]
StopTexts = Annotated[Several[StopText], Field(max_length=16)]
Bias = Annotated[float, Field(ge=-100, le=100)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
CacheSalt = Annotated[Utf8, Field(min_length=1, max_length=256)]
Name = Annotated[Utf8, Field(max_length=1024)]
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
    """A last chunk says how many tokens prompt and answer had."""
    continuous_usage_stats: bool = False
    """With include_usage: each chunk says so, of what there is by then."""


class Sampled(Strict):
    """What every request for tokens may say: how they are drawn, and whose they are."""

    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Divides the logits; 0 takes the likeliest token."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw from the likeliest tokens that together have this probability."""
    presence_penalty: Penalty = 0.0
    """Taken off the logits of tokens that the answer has already."""
    frequency_penalty: Penalty = 0.0
    """Taken off the logits of tokens for each time that the answer has them."""
    logit_bias: Annotated[dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Bias], few()] = {}
    """Added to the logits of these token ids."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    """The same request with the same seed gives the same answer, token for token."""
    stop: StopText | StopTexts | None = None
    """The answer ends before the first of these texts; at most 16."""
    stop_token_ids: Several[TokenId] = []
    """The answer ends with one of these tokens, whose text is not part of it."""
    user: Name | None = None
    """Whose request it is: the conversation, where prompt_cache_key does not name one."""
    prompt_cache_key: Name | None = None
    """Names the conversation: with session routing, all of it goes to one prefill worker."""
    cache_salt: CacheSalt | None = None
    """KV is shared with requests of the same salt and key alone."""
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)] = 0
    """Among one key's requests that wait, the lowest is first."""
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] = 0
    """Draw from so many of the likeliest tokens; 0 or -1: from all."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Draw from tokens that have at least this part of the likeliest one's probability."""
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    """Divides (or, below zero, multiplies) the logits of tokens that prompt or answer have already."""
    return_token_ids: bool = False
    """Choices say the ids of their tokens."""
    timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds; the request is given up with 408 when it is not complete by then."""

    @property
    def stops(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class GenerationRequest(Sampled, Guided, ABC):
    """What both completion endpoints share."""

    neutral = _NEUTRAL
    model: Utf8 | None = None
    """A name of /v1/models; without it, the first one."""
    stream: bool = False
    """Send the answer as server-sent events as it comes."""
    stream_options: StreamOptions | None = None
    """Needs stream."""
    n: Annotated[int, Field(ge=1, le=128)] = 1
    """Answers for each prompt, each with a seed of its own."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """The answer ends after so many tokens: by default 16 for a completion, what the context holds for a chat."""

    @property
    @abstractmethod
    def alternatives(self) -> int:
        """How many alternatives to report beside each token; -1 for no logprobs at all."""

    @property
    def token_limit(self) -> int | None:
        return self.max_tokens


class CompletionRequest(GenerationRequest):
    """The body of /v1/completions."""

    prompt: Utf8 | Several[TokenId] | Several[Utf8] | Several[Several[TokenId]]
    """A text, or token ids; or several of either, each of which gets n answers."""
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """Logprobs of the answer's tokens, and of so many alternatives to each."""
    echo: bool = False
    """The text begins with the prompt; with logprobs, so do they."""

    @property
    def alternatives(self) -> int:
        return -1 if self.logprobs is None else self.logprobs


class ChatRequest(GenerationRequest, Tools):
    """The body of /v1/chat/completions."""

    messages: Annotated[Several[ChatMessage], Field(min_length=1)]
    """The conversation so far."""
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """The newer name of max_tokens."""
    logprobs: bool = False
    """Logprobs of the answer's tokens."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """And of so many alternatives to each; needs logprobs."""
    chat_template_kwargs: JsonObject = {}
    """Variables for the chat template."""

    @property
    def alternatives(self) -> int:
        return (self.top_logprobs or 0) if self.logprobs else -1

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens
