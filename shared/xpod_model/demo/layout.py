"""The network's weights and sizes under the names that Hugging Face gives them, both ways.

It knows names. It knows nothing of files, and of the network only what its parts are called.
"""

from typing import Any

import torch
from torch import Tensor

from xpod_model.demo.network import Config, Network

__all__ = ["from_hugging_face", "hugging_face_config", "hugging_face_state"]

NAMES = {
    "input_layernorm": "input_norm",
    "post_attention_layernorm": "post_norm",
    "self_attn.q_norm": "q_norm",
    "self_attn.k_norm": "k_norm",
    "self_attn.q_proj": "q",
    "self_attn.k_proj": "k",
    "self_attn.v_proj": "v",
    "self_attn.o_proj": "o",
    "mlp.gate": "router",
}
EXPERT_NAMES = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down"}


def hugging_face_state(network: Network) -> dict[str, Tensor]:
    """Views of the network's weights under the names of Qwen3MoeForCausalLM."""
    state = {
        "model.embed_tokens.weight": network.embedding.data,
        "model.norm.weight": network.final_norm.data,
    }
    for i, layer in enumerate(network.layers):
        for name, ours in NAMES.items():
            state[f"model.layers.{i}.{name}.weight"] = getattr(layer, ours).data
        for name, ours in EXPERT_NAMES.items():
            for j, weight in enumerate(getattr(layer, ours).data):
                state[f"model.layers.{i}.mlp.experts.{j}.{name}.weight"] = weight
    return state


def from_hugging_face(state: dict[str, Tensor], config: Config, compute: torch.dtype) -> Network:
    network = Network(config, compute)
    for name, weight in hugging_face_state(network).items():
        weight.copy_(state[name])
    return network


def hugging_face_config(config: Config) -> dict[str, Any]:
    """The arguments of transformers' Qwen3MoeConfig."""
    return {
        "vocab_size": config.vocabulary,
        "hidden_size": config.hidden,
        "intermediate_size": config.chosen * config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.key_heads,
        "head_dim": config.head_size,
        "num_experts": config.experts,
        "num_experts_per_tok": config.chosen,
        "moe_intermediate_size": config.width,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
        "max_position_embeddings": config.positions,
        "rms_norm_eps": config.epsilon,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "attention_bias": False,
        "router_aux_loss_coef": 0.01,
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": 3,
    }
