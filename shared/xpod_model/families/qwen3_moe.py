"""Qwen3-MoE: its config keys and its tensor names. It computes nothing."""

from xpod_model.errors import ConfigError, UnsupportedModel
from xpod_model.families.base import (
    MOST_LAYERS,
    MOST_TENSORS,
    Json,
    LayerNames,
    MlpNames,
    ModelConfig,
    need_int,
    token_ids,
)
from xpod_model.families.rope import parse_rope

DTYPES = {"bfloat16": "bf16", "float32": "fp32", "float16": "fp32"}


class Qwen3Moe:
    """Grouped-query attention with a norm on each head, and softmax-gated experts in all or some layers."""

    model_types: tuple[str, ...] = ("qwen3_moe",)

    def parse(self, config: Json, generation: Json) -> ModelConfig:
        """ModelConfig from config.json and generation_config.json (which may be empty)."""
        _refuse_unsupported(config)
        hidden, heads = need_int(config, "hidden_size"), need_int(config, "num_attention_heads")
        if not heads:
            raise ConfigError("config.json: num_attention_heads must not be 0")
        parsed = ModelConfig(
            model_type=str(config["model_type"]),
            layers=need_int(config, "num_hidden_layers"),
            hidden=hidden,
            heads=heads,
            kv_heads=need_int(config, "num_key_value_heads"),
            head_dim=need_int(config, "head_dim") if config.get("head_dim") else hidden // heads,
            vocab=need_int(config, "vocab_size"),
            experts=need_int(config, "num_experts", "num_local_experts"),
            experts_per_token=need_int(config, "num_experts_per_tok"),
            expert_width=need_int(config, "moe_intermediate_size"),
            dense_width=need_int(config, "intermediate_size"),
            moe_layers=_moe_layers(config),
            norm_topk_prob=bool(config.get("norm_topk_prob", False)),
            attention_bias=bool(config.get("attention_bias", False)),
            rms_eps=float(config.get("rms_norm_eps", 1e-6)),
            tie_embeddings=bool(config.get("tie_word_embeddings", False)),
            max_positions=need_int(config, "max_position_embeddings"),
            rope=parse_rope(config, need_int(config, "max_position_embeddings")),
            dtype=_dtype(config),
            eos_token_ids=eos_ids(generation) or eos_ids(config),
        )
        _check(parsed)
        return parsed

    def embedding(self) -> str:
        return "model.embed_tokens.weight"

    def final_norm(self) -> str:
        return "model.norm.weight"

    def lm_head(self, config: ModelConfig) -> str:
        return self.embedding() if config.tie_embeddings else "lm_head.weight"

    def layer(self, config: ModelConfig, layer: int) -> LayerNames:
        root = f"model.layers.{layer}"
        attention = f"{root}.self_attn"
        moe = layer in config.moe_layers
        q_bias, k_bias, v_bias, o_bias = (
            f"{attention}.{part}_proj.bias" if config.attention_bias else None for part in "qkvo"
        )
        return LayerNames(
            input_norm=f"{root}.input_layernorm.weight",
            q=f"{attention}.q_proj.weight",
            k=f"{attention}.k_proj.weight",
            v=f"{attention}.v_proj.weight",
            o=f"{attention}.o_proj.weight",
            q_bias=q_bias,
            k_bias=k_bias,
            v_bias=v_bias,
            o_bias=o_bias,
            q_norm=f"{attention}.q_norm.weight",
            k_norm=f"{attention}.k_norm.weight",
            mlp_norm=f"{root}.post_attention_layernorm.weight",
            router=f"{root}.mlp.gate.weight" if moe else None,
            dense=None if moe else _mlp(f"{root}.mlp"),
        )

    def expert(self, layer: int, expert: int) -> MlpNames:
        return _mlp(f"model.layers.{layer}.mlp.experts.{expert}")


def _mlp(root: str) -> MlpNames:
    return MlpNames(f"{root}.gate_proj.weight", f"{root}.up_proj.weight", f"{root}.down_proj.weight")


def _refuse_unsupported(config: Json) -> None:
    if config.get("use_sliding_window"):
        raise UnsupportedModel("use_sliding_window is not supported")
    act = config.get("hidden_act", "silu")
    if act != "silu":
        raise UnsupportedModel(f"hidden_act {act!r} is not supported; supported: silu")
    if config.get("quantization_config"):
        raise UnsupportedModel("quantization_config is not supported: use the bf16 or fp32 weights")


def _moe_layers(config: Json) -> tuple[int, ...]:
    dense = set(config.get("mlp_only_layers") or ())
    step = int(config.get("decoder_sparse_step") or 1)
    count = need_int(config, "num_hidden_layers")
    if count > MOST_LAYERS:
        raise ConfigError(f"config.json: num_hidden_layers is {count}, more than {MOST_LAYERS}")
    layers = range(count)
    has_experts = need_int(config, "num_experts", "num_local_experts") > 0
    return tuple(i for i in layers if has_experts and i not in dense and (i + 1) % step == 0)


def _dtype(config: Json) -> str:
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")
    if name not in DTYPES:
        raise UnsupportedModel(f"dtype {name!r} is not supported; supported: {', '.join(DTYPES)}")
    return DTYPES[name]


def eos_ids(config: Json) -> tuple[int, ...]:
    ids = config.get("eos_token_id")
    if ids is None:
        return ()
    return token_ids(ids)


def _check(config: ModelConfig) -> None:
    if config.layers * (1 + config.experts) > MOST_TENSORS:
        raise ConfigError(f"config.json: {config.layers} layers of {config.experts} experts are too many")
    if not config.layers or not config.hidden or not config.vocab or not config.head_dim:
        raise ConfigError("config.json: layers, hidden_size, vocab_size and head_dim must not be 0")
    if not config.kv_heads or config.heads % config.kv_heads:
        raise ConfigError(f"config.json: {config.heads} heads do not divide over {config.kv_heads} KV heads")
    if config.head_dim % 2:
        raise ConfigError(f"config.json: head_dim {config.head_dim} is odd, rotary embedding needs pairs")
    if config.moe_layers and not 0 < config.experts_per_token <= config.experts:
        raise ConfigError(f"config.json: {config.experts_per_token} experts per token of {config.experts}")
