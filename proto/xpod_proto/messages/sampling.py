"""How a session chooses its tokens; the same in every message that carries it."""

from typing import Annotated

from pydantic import Field

from xpod_proto.registry import Message, message


@message(32)
class SamplingSpec(Message):
    """Sampling parameters in OpenAI's and vLLM's words; `logprobs` is the number of alternatives, -1 for none.

    `grammar`, in llguidance's words, is what the text has to be like; empty: like anything.
    """

    seed: int
    max_tokens: Annotated[int, Field(ge=1)]
    temperature: Annotated[float, Field(ge=0.0)] = 1.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    min_p: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    repetition_penalty: Annotated[float, Field(gt=0.0)] = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    min_tokens: Annotated[int, Field(ge=0)] = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    logprobs: Annotated[int, Field(ge=-1)] = -1
    grammar: str = ""
