"""What a decode worker receives."""

from xpod_proto.messages.router import TokenEvent
from xpod_proto.messages.sampling import SamplingSpec
from xpod_proto.registry import Message, message
from xpod_proto.tensor import Tensor


@message(64)
class DecodeTask(Message):
    """Go on with a session: `prompt` and the tokens `generated` so far (u32). Answered by Ack once a slot is taken."""

    session: str
    epoch: int
    router: str
    prompt: Tensor
    generated: Tensor
    sampling: SamplingSpec
    salt: str = ""


@message(65)
class CancelSession(Message):
    """Nobody wants this session under `epoch` or an earlier one: free its slot and blocks. Prefill takes it too.

    A router that runs it for a client that cancelled it at another router ends it, and answers with Ack.
    """

    session: str
    epoch: int


@message(66)
class ReplayTokens(Message):
    """Which tokens of this session from index `start` on do you have? Answered by TokenHistory."""

    session: str
    start: int


@message(67)
class TokenHistory(Message):
    """The answer to ReplayTokens: `known` is false where a worker does not run the session, and a router not own it.

    `said` (u32) are all token ids so far, also those that others generated and whose events it does not have. `epoch`
    is the one under which it has the session, `request` (from a router) the digest of the request behind it.
    """

    session: str
    known: bool
    tokens: tuple[TokenEvent, ...]
    said: Tensor = Tensor("u32", (0,), b"")
    epoch: int = -1
    request: bytes = b""
