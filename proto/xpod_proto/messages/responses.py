"""What the pod keeps of responses (OpenAI's Responses API): enough for any router to tell them."""

from xpod_proto.messages.sampling import SamplingSpec
from xpod_proto.registry import Message, message
from xpod_proto.tensor import Tensor


@message(130)
class ResponseFacts(Message):
    """How a response began: whose it is, when (Unix time), what makes its tokens as in `SessionFacts`, and the rest.

    That is in `body`, deflated JSON. `prompt` is u32 `[T]`.
    """

    id: str
    tenant: str
    created: float
    request: bytes
    prompt: Tensor
    sampling: SamplingSpec
    salt: str
    body: bytes


@message(131)
class ResponseEnd(Message):
    """How it ended, when, and after how many tokens; `code` and `reason` say why one failed."""

    status: str
    at: float
    tokens: int
    cached: int
    code: str = ""
    reason: str = ""


@message(132)
class ResponseOwner(Message):
    """The router that runs a response in the background."""

    router: str
