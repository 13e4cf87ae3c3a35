"""config.json as transformers 4 and 5 write it, and what it may not say."""

import json
from pathlib import Path
from typing import Any

import pytest

from xpod_model.config import load_config
from xpod_model.errors import ConfigError, UnsupportedModel

V5: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "vocab_size": 128,
    "max_position_embeddings": 4096,
    "norm_topk_prob": True,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    "dtype": "bfloat16",
    "eos_token_id": 7,
}
YARN = {"factor": 4.0, "original_max_position_embeddings": 1024}


def write(directory: Path, config: dict[str, Any], **more: Any) -> Path:
    (directory / "config.json").write_text(json.dumps({**config, **more}))
    return directory


def as_v4(config: dict[str, Any]) -> dict[str, Any]:
    """The same settings under the keys of transformers 4."""
    renamed = {"num_local_experts": "num_experts", "dtype": "torch_dtype"}
    old = {renamed.get(key, key): value for key, value in config.items()}
    rope = dict(old.pop("rope_parameters"))
    old["rope_theta"] = rope.pop("rope_theta")
    old["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    return old


@pytest.mark.parametrize(
    "rope", [{"rope_type": "default"}, {"rope_type": "yarn", **YARN}], ids=["default", "yarn"]
)
def test_both_spellings_mean_the_same(tmp_path: Path, rope: dict[str, Any]) -> None:
    config = {**V5, "rope_parameters": {**rope, "rope_theta": 1e6}}
    new = load_config(write(tmp_path, config))
    assert load_config(write(tmp_path, as_v4(config))) == new
    assert (new.experts, new.dtype, new.rope.theta, new.eos_token_ids) == (8, "bf16", 1e6, (7,))


def test_rope_scaling_may_say_type(tmp_path: Path) -> None:
    old = as_v4(V5) | {"rope_scaling": {"type": "linear", "factor": 2.0}}
    rope = load_config(write(tmp_path, old)).rope
    assert (rope.kind, rope.factor) == ("linear", 2.0)


def test_yarn_attention_factor(tmp_path: Path) -> None:
    rope = {"rope_type": "yarn", "rope_theta": 1e6, **YARN}
    assert load_config(write(tmp_path, V5, rope_parameters=rope)).rope.attention_factor == pytest.approx(
        1.138629
    )
    rope["attention_factor"] = 1.5
    assert load_config(write(tmp_path, V5, rope_parameters=rope)).rope.attention_factor == 1.5


@pytest.mark.parametrize(
    ("step", "dense", "expected"),
    [(1, [], (0, 1, 2, 3)), (2, [], (1, 3)), (1, [0, 2], (1, 3)), (2, [3], (1,)), (1, None, (0, 1, 2, 3))],
)
def test_moe_layers(tmp_path: Path, step: int, dense: list[int] | None, expected: tuple[int, ...]) -> None:
    config = load_config(write(tmp_path, V5, decoder_sparse_step=step, mlp_only_layers=dense))
    assert config.moe_layers == expected


def test_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, V5, head_dim=None, num_attention_heads=8))
    assert config.head_dim == 8
    assert config.kv_widths == (2 * 2 * 8,) * 4
    assert not config.tie_embeddings


def test_generation_config_names_the_end(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [3, 4]}')
    assert load_config(write(tmp_path, V5)).eos_token_ids == (3, 4)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "gpt2"}, "model_type 'gpt2' is not supported; supported: qwen3_moe"),
    ({"use_sliding_window": True}, "use_sliding_window is not supported"),
    ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
    ({"dtype": "int8"}, "dtype 'int8' is not supported"),
    ({"quantization_config": {"bits": 4}}, "quantization_config is not supported"),
    ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope scaling 'dynamic' is not supported"),
    ({"rope_parameters": {"rope_type": "longrope"}}, "rope scaling 'longrope' is not supported"),
    ({"rope_parameters": {"rope_type": "linear"}}, "config.json has no factor"),
    ({"hidden_size": None}, "config.json has no hidden_size"),
    ({"num_local_experts": None}, "config.json has no num_experts or num_local_experts"),
    ({"hidden_size": "wide"}, "hidden_size must be a non-negative integer, found 'wide'"),
    ({"num_key_value_heads": 3}, "4 heads do not divide over 3 KV heads"),
    ({"num_experts_per_tok": 9}, "9 experts per token of 8"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_what_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, V5, **change))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sliding_window_that_is_off_is_fine(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, V5, sliding_window=4096, use_sliding_window=False)).layers == 4


def test_unsupported_is_a_config_error() -> None:
    assert issubclass(UnsupportedModel, ConfigError)
