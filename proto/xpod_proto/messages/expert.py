"""The hop: attention to experts and back. The expert call is a pure function of its fields and the weights."""

from typing import Annotated

from pydantic import Field

from xpod_proto.registry import Message, message
from xpod_proto.tensor import Tensor


@message(96)
class ExpertCall(Message):
    """Rows for the experts of one layer that one shard serves.

    `rows` `[R, D]` in the model's dtype; `row_of` i32 `[P]` and `expert_of` i32 `[P]` name the pairs to compute.
    """

    layer: Annotated[int, Field(ge=0)]
    rows: Tensor
    row_of: Tensor
    expert_of: Tensor


@message(97)
class ExpertReply(Message):
    """One output row a pair, in the order of the call: `rows` `[P, D]`.

    `queued_us` and `computed_us`: how long the call waited at the shard, and how long its layer took there.
    """

    rows: Tensor
    queued_us: Annotated[int, Field(ge=0)] = 0
    computed_us: Annotated[int, Field(ge=0)] = 0
