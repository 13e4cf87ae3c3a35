"""What the journal of sessions holds: enough to go on after all processes of a pod were lost."""

from xpod_proto.messages.router import TokenEvent
from xpod_proto.messages.sampling import SamplingSpec
from xpod_proto.registry import Message, message
from xpod_proto.tensor import Tensor


@message(128)
class SessionFacts(Message):
    """What makes the tokens: `prompt` (u32 `[T]`) and parameters; `request` is the digest of the client's request."""

    session: str
    request: bytes
    prompt: Tensor
    sampling: SamplingSpec
    salt: str = ""


@message(129)
class SessionTokens(Message):
    """A page of a session's tokens, in order."""

    tokens: tuple[TokenEvent, ...]
