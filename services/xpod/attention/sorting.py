"""How an attention worker's pairs are sorted by shard: by our own kernel where there is one, to few where that pays."""

from xpod_model.config import ModelConfig
from xpod_model.kernels import kernels
from xpod_model.tensors import DTYPES
from xpod_policy.holdings import Sort, sort_pairs
from xpod_policy.spreading import few_tokens


def quickest_sort() -> Sort:
    """The quickest on this machine; all give the same."""
    own = kernels()
    return sort_pairs if own is None else own.sort_pairs


def few_of(model: ModelConfig, dtype: str) -> int:
    """Batches of at most so many tokens are for few shards, with weights of that type."""
    expert_bytes = 3 * model.hidden * model.expert_width * DTYPES[dtype].itemsize  # gate, up and down
    return few_tokens(model.experts, model.experts_per_token, expert_bytes)
