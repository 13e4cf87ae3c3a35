"""What a client may ask for, and in which words.

Knows: the parameters of both completion endpoints, their types and ranges. Every parameter that is not here, or
that is known to OpenAI or vLLM but not supported and not at its neutral value, is refused by name.
Does not know: the model, its vocabulary or its context length.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _utf8(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("half a surrogate pair is not text") from None
    return text


Utf8 = Annotated[str, AfterValidator(_utf8)]
StopText = Annotated[Utf8, Field(min_length=1)]
StopTexts = Annotated[list[StopText], Field(max_length=16)]
Bias = Annotated[float, Field(ge=-100, le=100)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
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
    "priority": (0,),
    "response_format": ({"type": "text"},),
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
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "prompt_logprobs",
        ),
        *(
            "reasoning_effort",
            "safety_identifier",
            "structured_outputs",
            "truncate_prompt_tokens",
            "verbosity",
        ),
        "web_search_options",
    ),
    (),
)
_NO_TOOLS: dict[str, tuple[Any, ...]] = dict.fromkeys(
    ("audio", "function_call", "refusal", "tool_call_id", "tool_calls"), ([],)
)


class Unsupported(ValueError):
    """A parameter that others have and this API has not."""

    def __init__(self, param: str) -> None:
        super().__init__("not supported")
        self.param = param


class Strict(BaseModel):
    """No coercion, no unknown names; null means absent."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = cls.model_fields.keys()
        kept = {}
        for name, value in data.items():
            foreign = name not in known and name in cls.neutral
            if value is None and (foreign or name in known):
                continue
            if foreign and value in cls.neutral[name]:
                continue
            if foreign:
                raise Unsupported(name)
            kept[name] = value
        return kept


class StreamOptions(Strict):
    """How a stream reports usage."""

    neutral = {"include_obfuscation": (False,)}
    include_usage: bool = False
    continuous_usage_stats: bool = False


class GenerationRequest(Strict):
    """What both completion endpoints share."""

    neutral = _NEUTRAL
    model: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=128)] = 1
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    logit_bias: dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Bias] = {}
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: StopText | StopTexts | None = None
    stop_token_ids: list[TokenId] = []
    user: str | None = None
    ignore_eos: bool = False
    min_tokens: Annotated[int, Field(ge=0)] = 0
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    return_token_ids: bool = False

    @property
    def stops(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def alternatives(self) -> int:
        """How many alternatives to report beside each token; -1 for no logprobs at all."""
        raise NotImplementedError

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


class TextPart(Strict):
    """A piece of a message's content."""

    type: str
    text: Utf8 = ""

    @model_validator(mode="before")
    @classmethod
    def _only_text(cls, data: Any) -> Any:
        kind = data.get("type") if isinstance(data, dict) else None
        if isinstance(kind, str) and kind != "text":
            raise ValueError(f"content parts of type {kind!r} are not supported, only 'text'")
        return data


class ChatMessage(Strict):
    """One turn; `developer` is OpenAI's newer word for `system`."""

    neutral = _NO_TOOLS
    role: Literal["system", "developer", "user", "assistant"]
    content: Utf8 | list[TextPart]
    name: Utf8 | None = None

    def for_template(self) -> dict[str, str]:
        """The message as chat templates know it."""
        parts = self.content
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": text} | ({"name": self.name} if self.name else {})


class ChatRequest(GenerationRequest):
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
