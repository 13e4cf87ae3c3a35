"""A damaged model directory says what is wrong with it, in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from xpod_model.checkpoint import INDEX, Checkpoint
from xpod_model.errors import (
    CheckpointError,
    ConfigError,
    FileTruncated,
    ModelError,
    TensorMissing,
    TensorShape,
)

EXPERT = "model.layers.0.mlp.experts.3.down_proj.weight"
IMPLIED = "config.json implies [48, 24]"
JUNK = bytes([9, *[0] * 7]) + b"not json." * 9
Break = Callable[[Path], Any]


@pytest.fixture
def model(tmp_path: Path, oracle_dirs: dict[str, Path]) -> Path:
    return Path(shutil.copytree(oracle_dirs["plain"], tmp_path / "model"))


@pytest.fixture
def sharded(tmp_path: Path, oracle_dirs: dict[str, Path]) -> Path:
    return Path(shutil.copytree(oracle_dirs["sharded-yarn"], tmp_path / "sharded"))


def weights(model: Path) -> Path:
    return model / "model.safetensors"


def rewrite(model: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = dict(load_file(weights(model)))
    change(tensors)
    save_file(tensors, weights(model))


def truncate(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def halve(tensors: dict[str, torch.Tensor]) -> None:
    tensors[EXPERT] = tensors[EXPERT][:24].clone()


def retype(tensors: dict[str, torch.Tensor]) -> None:
    tensors[EXPERT] = tensors[EXPERT].to(torch.int64)


def unreadable(model: Path) -> None:
    weights(model).unlink()
    weights(model).mkdir()


TABLE: list[tuple[str, Break, type[ModelError], str]] = [
    ("no directory", shutil.rmtree, ConfigError, "does not exist"),
    ("no config", lambda m: (m / "config.json").unlink(), ConfigError, "has no config.json"),
    ("not JSON", lambda m: (m / "config.json").write_text("{nope"), ConfigError, "config.json is not JSON"),
    ("no object", lambda m: (m / "config.json").write_text("[]"), ConfigError, "is not a JSON object"),
    ("no type", lambda m: (m / "config.json").write_text("{}"), ConfigError, "has no model_type"),
    ("no weights", lambda m: weights(m).unlink(), CheckpointError, "has no safetensors files"),
    (
        "tensor missing",
        lambda m: rewrite(m, lambda t: t.pop(EXPERT)),
        TensorMissing,
        f"tensor {EXPERT} is in no",
    ),
    ("wrong shape", lambda m: rewrite(m, halve), TensorShape, f"{EXPERT} has shape [24, 24], {IMPLIED}"),
    (
        "wrong dtype",
        lambda m: rewrite(m, retype),
        CheckpointError,
        f"{EXPERT} has dtype I64; supported: BF16",
    ),
    ("cut in the data", lambda m: truncate(weights(m), 100_000), FileTruncated, "is truncated: 100000 bytes"),
    ("cut in the header", lambda m: truncate(weights(m), 500), FileTruncated, "ends inside its header"),
    ("empty", lambda m: truncate(weights(m), 0), FileTruncated, "ends inside its header"),
    ("unreadable", unreadable, CheckpointError, "model.safetensors cannot be read: Is a directory"),
    ("no safetensors", lambda m: weights(m).write_bytes(JUNK), CheckpointError, "is not a safetensors file"),
]


@pytest.mark.parametrize(
    ("damage", "error", "message"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_damage_is_named(model: Path, damage: Break, error: type[ModelError], message: str) -> None:
    damage(model)
    with pytest.raises(error) as caught:
        Checkpoint.open(model).validate()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00003.safetensors").unlink(missing_ok=True)
    gone = sorted(sharded.glob("*.safetensors"))[-1]
    gone.unlink()
    with pytest.raises(CheckpointError, match=r"is named in model.safetensors.index.json and does not exist"):
        Checkpoint.open(sharded)


def test_an_index_without_a_map(sharded: Path) -> None:
    (sharded / INDEX).write_text("{}")
    with pytest.raises(CheckpointError, match="has no weight_map"):
        Checkpoint.open(sharded)


@pytest.mark.parametrize("name", ["plain", "sharded-yarn", "dense-among", "bias-llama3"])
def test_every_tensor_reads_as_safetensors_reads_it(name: str, oracle_dirs: dict[str, Path]) -> None:
    checkpoint = Checkpoint.open(oracle_dirs[name])
    checkpoint.validate()
    expected = {k: v for file in oracle_dirs[name].glob("*.safetensors") for k, v in load_file(file).items()}
    assert set(checkpoint.names) == set(expected)
    for key, tensor in expected.items():
        dtype, shape, data = checkpoint.raw(key)
        assert (dtype, shape) == ("fp32", tuple(tensor.shape))
        assert np.array_equal(data, tensor.numpy())


def test_bf16_reads_as_its_bits(model: Path) -> None:
    rewrite(model, lambda t: t.update({k: v.bfloat16() for k, v in t.items()}))
    dtype, _, data = Checkpoint.open(model).raw(EXPERT)
    assert dtype == "bf16"
    assert np.array_equal(data, load_file(weights(model))[EXPERT].view(torch.uint16).numpy())


def test_identity_follows_content_not_place(model: Path, oracle_dirs: dict[str, Path]) -> None:
    original = Checkpoint.open(oracle_dirs["plain"]).identity
    assert Checkpoint.open(model).identity == original
    rewrite(model, lambda t: t[EXPERT].add_(1))
    assert Checkpoint.open(model).identity != original
    assert Checkpoint.open(oracle_dirs["dense-among"]).identity != original


def test_identity_follows_the_config(model: Path, oracle_dirs: dict[str, Path]) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "norm_topk_prob": not config["norm_topk_prob"]}))
    assert Checkpoint.open(model).identity != Checkpoint.open(oracle_dirs["plain"]).identity


def test_released_memory_is_read_again(oracle_dirs: dict[str, Path]) -> None:
    checkpoint = Checkpoint.open(oracle_dirs["plain"])
    view = checkpoint.raw("model.norm.weight")[2]
    before = view.copy()
    checkpoint.release()
    assert (view == before).all()
    assert (checkpoint.raw("model.norm.weight")[2] == before).all()
