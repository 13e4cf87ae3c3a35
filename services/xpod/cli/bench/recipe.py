"""What the benchmark model is: its sizes, and what config.json says about them.

Knows: Qwen3-MoE's config keys; the tensors follow from them by way of the model family.
Does not know: weights, files, or options. xpod_model comes with numpy, which other commands should not wait for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xpod_model.families.base import ModelConfig, Shape

VERSION = 1
"""Another number, other bytes for the same seed."""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""Tokens 0 to 2; a text ends with the first, a chat turn with the last."""
EOS = [2, 0]
SMALLEST_VOCAB = len(SPECIAL) + 256
LAYER_PREFIX = "model.layers."


@dataclass(frozen=True, slots=True)
class Recipe:
    """Equal recipes make equal bytes. Widths in elements."""

    seed: int = 0
    layers: int = 16
    hidden: int = 1024
    num_experts: int = 32
    experts_per_token: int = 8
    expert_width: int = 512
    heads: int = 16
    kv_heads: int = 4
    head_dim: int = 64
    vocab: int = 32_000
    max_positions: int = 32_768
    version: int = VERSION

    @property
    def name(self) -> str:
        """A directory's name: enough to tell usual variants apart."""
        experts = f"e{self.num_experts}k{self.experts_per_token}x{self.expert_width}"
        heads = f"h{self.heads}kv{self.kv_heads}x{self.head_dim}"
        return f"bench-l{self.layers}-d{self.hidden}-{experts}-{heads}-v{self.vocab}-s{self.seed}"

    def as_json(self) -> dict[str, int]:
        return asdict(self)

    def config(self) -> dict[str, Any]:
        """config.json. Some sizes stand under two names: transformers 5 renamed them."""
        return {
            "architectures": ["Qwen3MoeForCausalLM"],
            "attention_bias": False,
            "bos_token_id": None,
            "decoder_sparse_step": 1,
            "dtype": "bfloat16",
            "eos_token_id": EOS[0],
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.experts_per_token * self.expert_width,
            "max_position_embeddings": self.max_positions,
            "mlp_only_layers": [],
            "model_type": "qwen3_moe",
            "moe_intermediate_size": self.expert_width,
            "norm_topk_prob": True,
            "num_attention_heads": self.heads,
            "num_experts": self.num_experts,
            "num_experts_per_tok": self.experts_per_token,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "num_local_experts": self.num_experts,
            "pad_token_id": 0,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"},
            "rope_theta": 1e6,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "use_sliding_window": False,
            "vocab_size": self.vocab,
        }

    def parsed(self) -> ModelConfig:
        """As the services read it. Raises ConfigError for sizes that no model can have."""
        from xpod_model.families import family_of

        return family_of("qwen3_moe").parse(self.config(), {})

    def shards(self) -> Iterator[list[tuple[str, Shape]]]:
        """The tensors (name, shape) of each file: what lies outside of the layers, then layer by layer."""
        from xpod_model.families import family_of
        from xpod_model.families.base import tensor_shapes

        every = tensor_shapes(family_of("qwen3_moe"), self.parsed())
        for _, tensors in groupby(every, key=lambda tensor: _layer_of(tensor[0])):
            yield list(tensors)


def _layer_of(name: str) -> str:
    return name.removeprefix(LAYER_PREFIX).partition(".")[0] if name.startswith(LAYER_PREFIX) else ""
