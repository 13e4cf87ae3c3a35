"""What a model family is: how its config reads, what its tensors are called, and their shapes.

It knows no family in particular, opens no file, and does not know torch. A new family is one more module that
makes a `Family` and is listed in `families/__init__.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from xpod_model.errors import ConfigError

Json = Mapping[str, Any]
MOST = 1 << 32
"""Of anything that a config counts."""
MOST_LAYERS = 1 << 12
MOST_TENSORS = 1 << 22
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary embedding: `kind` is one of default, linear, llama3, yarn; the other fields matter to some kinds."""

    theta: float
    kind: str = "default"
    factor: float = 1.0
    original_max_positions: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What the computation needs to know of a model; counts and widths in elements, layers from 0."""

    model_type: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    experts: int
    experts_per_token: int
    expert_width: int
    dense_width: int
    moe_layers: tuple[int, ...]
    norm_topk_prob: bool
    attention_bias: bool
    rms_eps: float
    tie_embeddings: bool
    max_positions: int
    rope: RopeConfig
    dtype: str
    eos_token_ids: tuple[int, ...]

    @property
    def kv_widths(self) -> tuple[int, ...]:
        """Elements that one token adds to the KV cache, per layer. Opaque: only attention knows what they mean."""
        return (2 * self.kv_heads * self.head_dim,) * self.layers


@dataclass(frozen=True, slots=True)
class MlpNames:
    """The three matrices of a gated MLP, dense or expert: down(silu(gate(x)) * up(x))."""

    gate: str
    up: str
    down: str


@dataclass(frozen=True, slots=True)
class LayerNames:
    """Tensor names of one layer. A bias or head norm that the family does not have is None."""

    input_norm: str
    q: str
    k: str
    v: str
    o: str
    q_bias: str | None
    k_bias: str | None
    v_bias: str | None
    o_bias: str | None
    q_norm: str | None
    k_norm: str | None
    mlp_norm: str
    router: str | None
    dense: MlpNames | None


class Family(Protocol):
    """One model family: config keys in, tensor names and shapes out."""

    @property
    def model_types(self) -> tuple[str, ...]: ...

    def parse(self, config: Json, generation: Json) -> ModelConfig: ...

    def embedding(self) -> str: ...

    def final_norm(self) -> str: ...

    def lm_head(self, config: ModelConfig) -> str: ...

    def layer(self, config: ModelConfig, layer: int) -> LayerNames: ...

    def expert(self, layer: int, expert: int) -> MlpNames: ...


def mlp_shapes(names: MlpNames, hidden: int, width: int) -> Iterator[tuple[str, Shape]]:
    yield names.gate, (width, hidden)
    yield names.up, (width, hidden)
    yield names.down, (hidden, width)


def attention_shapes(names: LayerNames, config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    q, kv, hidden = config.heads * config.head_dim, config.kv_heads * config.head_dim, config.hidden
    pairs: list[tuple[str | None, Shape]] = [
        (names.input_norm, (hidden,)),
        (names.q, (q, hidden)),
        (names.k, (kv, hidden)),
        (names.v, (kv, hidden)),
        (names.o, (hidden, q)),
        (names.q_bias, (q,)),
        (names.k_bias, (kv,)),
        (names.v_bias, (kv,)),
        (names.o_bias, (hidden,)),
        (names.q_norm, (config.head_dim,)),
        (names.k_norm, (config.head_dim,)),
        (names.mlp_norm, (hidden,)),
        (names.router, (config.experts, hidden)),
    ]
    yield from ((name, shape) for name, shape in pairs if name is not None)


def tensor_shapes(family: Family, config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    """Every tensor that the model needs, with the shape that the config implies."""
    yield family.embedding(), (config.vocab, config.hidden)
    yield family.final_norm(), (config.hidden,)
    if not config.tie_embeddings:
        yield family.lm_head(config), (config.vocab, config.hidden)
    for layer in range(config.layers):
        names = family.layer(config, layer)
        yield from attention_shapes(names, config)
        if names.dense is not None:
            yield from mlp_shapes(names.dense, config.hidden, config.dense_width)
        else:
            for expert in range(config.experts):
                yield from mlp_shapes(family.expert(layer, expert), config.hidden, config.expert_width)


def need(config: Json, *keys: str) -> Any:
    """The first of `keys` that has a value; transformers 4 and 5 name some settings differently."""
    for key in keys:
        if config.get(key) is not None:
            return config[key]
    raise ConfigError(f"config.json has no {' or '.join(keys)}")


def need_int(config: Json, *keys: str) -> int:
    value = need(config, *keys)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(
            f"config.json: {keys[0]} must be a non-negative integer, found {str(value)[:100]!r}"
        )
    if value > MOST:
        raise ConfigError(f"config.json: {keys[0]} is {value:.3g}, more than {MOST}")
    return value


def token_ids(found: object) -> tuple[int, ...]:
    """One token id or a list of them. Raises ConfigError."""
    ids = tuple(found) if isinstance(found, list) else (found,)
    if not all(type(each) is int and 0 <= each < MOST for each in ids):
        raise ConfigError(f"eos_token_id is {str(found)[:100]!r}, which is no token id and no list of them")
    return ids
