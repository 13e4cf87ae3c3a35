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
