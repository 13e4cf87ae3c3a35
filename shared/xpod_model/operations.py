"""What a layer of the attention half does beside its products with weights: one interface for two makes.

`torch_operations` is torch's, for every model and device; `own_operations` has our own kernels. They differ in last
bits, so a process computes a model with one make throughout, and the numerics fingerprint tells which. Within a make
a row has the same bits in any batch and in any chunk.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor

from xpod_model.kv import KVCache
from xpod_model.plan import Plan, Segment

Attend = Callable[[int, Tensor, Tensor | None], Tensor]
"""(layer, qkv [T, (heads + 2 * KV heads) * head_dim], the weight of the heads' norm or None) -> [T, heads * head_dim].

Remembers keys and values; qkv is used up.
"""


class Operations(ABC):
    """Rows are [T, …] in the dtype of the model."""

    @abstractmethod
    def attention(self, segments: Sequence[Segment], plan: Plan, cache: KVCache) -> Attend:
        """What every layer of one forward attends with."""

    @abstractmethod
    def add_norm(self, x: Tensor, delta: Tensor | None, weight: Tensor) -> tuple[Tensor, Tensor]:
        """x [T, D] + delta, and RMSNorm of that; x may be used up."""

    @abstractmethod
    def choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """logits [T, E or more] -> experts [T, K] int64 and their weights [T, K], heaviest first."""

    @abstractmethod
    def combine(self, outputs: Tensor, weights: Tensor) -> Tensor:
        """outputs [T, K, D], weights [T, K] -> [T, D]: the weighted sum in slot order, in fp32."""
