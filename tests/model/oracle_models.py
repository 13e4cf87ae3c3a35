"""Small random Qwen3-MoE checkpoints, written by transformers, that between them use every feature of the family.

Each directory is whole: weights, config, a byte-level tokenizer, a chat template. It knows nothing of xpod_model,
so that it can testify.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VOCAB = 260
BOS, EOS = 256, 257
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True)
class Recipe:
    """One checkpoint: what differs from the base config, and how its weights are cut into files."""

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    shard: str = "5GB"
    seed: int = 0


BASE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 72,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "norm_topk_prob": True,
    "tie_word_embeddings": False,
    "max_position_embeddings": 2048,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 512}
RECIPES = (
    Recipe("plain", seed=1),
    Recipe("tied-odd-heads", seed=2, config={
        "tie_word_embeddings": True, "norm_topk_prob": False, "hidden_size": 40,
        "num_attention_heads": 5, "num_key_value_heads": 5, "head_dim": 8,
    }),
    Recipe("dense-among", seed=3, config={
        "num_hidden_layers": 5, "mlp_only_layers": [3], "decoder_sparse_step": 2, "num_experts_per_tok": 3,
    }),
    Recipe("bias-llama3", seed=4, config={
        "attention_bias": True, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 32,
        "rope_parameters": LLAMA3,
    }),
    Recipe("sharded-yarn", seed=5, shard="60KB", config={
        "rope_parameters": YARN, "head_dim": 24, "tie_word_embeddings": True, "num_experts": 6,
    }),
    Recipe("linear-groups", seed=16, config={
        "num_attention_heads": 8, "num_key_value_heads": 1, "num_experts": 5, "num_experts_per_tok": 5,
        "norm_topk_prob": False, "rope_parameters": {"rope_type": "linear", "rope_theta": 1e6, "factor": 2.0},
    }),
    Recipe("one-expert-a-token", seed=7, config={
        "num_experts_per_tok": 1, "moe_intermediate_size": 36, "num_hidden_layers": 2, "hidden_size": 64,
        "num_key_value_heads": 4,
    }),
    Recipe("wide-heads", seed=8, config={
        "hidden_size": 64, "head_dim": 64, "num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 64,
    }),
    Recipe("wider-heads-dense-bias", seed=9, config={
        "hidden_size": 128, "head_dim": 128, "num_attention_heads": 6, "num_experts": 16, "mlp_only_layers": [1],
        "attention_bias": True, "norm_topk_prob": False, "moe_intermediate_size": 40, "rope_parameters": YARN,
    }),
)  # fmt: skip


def make_oracle_models(root: Path, recipes: tuple[Recipe, ...] = RECIPES) -> list[Path]:
    """Write one model directory per recipe under `root`; returns them in order."""
    return [make_oracle_model(root / recipe.name, recipe) for recipe in recipes]


def make_oracle_model(directory: Path, recipe: Recipe) -> Path:
    """One model directory: weights drawn wide enough that greedy text varies instead of repeating itself."""
    import torch
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    generator = torch.Generator().manual_seed(recipe.seed)
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**{**BASE, **recipe.config}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.2 * noise if "norm" in name else 0.4 * noise)
    model.save_pretrained(directory, max_shard_size=recipe.shard)
    write_tokenizer(directory)
    return directory


def write_tokenizer(directory: Path) -> None:
    """Bytes as tokens 0…255, two special tokens after them, and a chat template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = _bytes_to_unicode()
    tokenizer = Tokenizer(models.BPE({letter: byte for byte, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|bos|>", special=True), AddedToken("<|eos|>", special=True)])
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"bos_token": "<|bos|>", "eos_token": {"content": "<|eos|>"}, "chat_template": TEMPLATE}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))


def _bytes_to_unicode() -> list[str]:
    """GPT-2's alphabet: a printable stand-in for each byte, in byte order."""
    kept = {*range(33, 127), *range(161, 173), *range(174, 256)}
    moved = iter(range(256, 512))
    return [chr(byte) if byte in kept else chr(next(moved)) for byte in range(256)]
