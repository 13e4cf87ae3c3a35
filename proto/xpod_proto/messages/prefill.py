"""What a prefill worker receives."""

from xpod_proto.messages.sampling import SamplingSpec
from xpod_proto.registry import Message, message
from xpod_proto.tensor import Tensor


@message(48)
class PrefillTask(Message):
    """Compute the KV of `prompt` (u32 `[T]`), sample token 0, and report to `router`; answered by Ack when queued.

    KV is shared with sessions of the same `salt` only. Tenants' prompts are computed in turn, the lowest `priority` of
    each tenant's first.
    """

    session: str
    epoch: int
    router: str
    prompt: Tensor
    sampling: SamplingSpec
    salt: str = ""
    tenant: str = ""
    priority: int = 0


@message(49)
class ScorePrompt(Message):
    """How likely is each token of `prompt` (u32 `[T]`) after those before it, and which `alternatives` are likelier?

    Answered by PromptScores when it is computed; asked twice under one `session`, it is computed once.
    """

    session: str
    prompt: Tensor
    alternatives: int
    salt: str = ""
    tenant: str = ""
    priority: int = 0


@message(50)
class PromptScores(Message):
    """Of tokens 1 … T - 1: `logprobs` (fp32 `[T - 1]`), the likeliest `tokens` (u32 `[T - 1, K]`), theirs (`tops`)."""

    session: str
    logprobs: Tensor
    tokens: Tensor
    tops: Tensor
