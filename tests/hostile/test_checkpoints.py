"""Model directories that are damaged or made to hurt: one line that names the file, no traceback, bounded memory."""

from __future__ import annotations

import json
import os
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xpod.cli.errors import UNREACHABLE
from xpod.cli.main import run_command

Break = Callable[[Path], Any]
MIB = 1 << 20
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def model(tmp_path: Path, oracle_dirs: dict[str, Path]) -> Path:
    return Path(shutil.copytree(oracle_dirs["plain"], tmp_path / "model"))


def header(told: bytes, *, length: int | None = None, data: int = 0) -> Break:
    """A weights file with that header, which says that it is so long; `data` bytes follow, as a hole."""

    def damage(model: Path) -> None:
        with (model / WEIGHTS).open("wb") as file:
            file.write(struct.pack("<Q", len(told) if length is None else length) + told)
            file.truncate(8 + len(told) + data)

    return damage


def tensor(**changes: object) -> Break:
    told = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16], **changes}
    return header(json.dumps({"x": told}).encode(), data=64)


def config(**changes: object) -> Break:
    def damage(model: Path) -> None:
        told = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**told, **changes}))

    return damage


def written(name: str, content: bytes) -> Break:
    return lambda model: (model / name).write_bytes(content)


def large(name: str, size: int) -> Break:
    return lambda model: os.truncate(model / name, size)


def index(name: str) -> Break:
    return written(INDEX, json.dumps({"weight_map": {"x": name}}).encode())


def fifo(model: Path) -> None:
    (model / WEIGHTS).unlink()
    os.mkfifo(model / WEIGHTS)


DAMAGES: dict[str, tuple[Break, str]] = {
    "half of the weights": (lambda m: os.truncate(m / WEIGHTS, 50_000), WEIGHTS),
    "no weights": (large(WEIGHTS, 0), WEIGHTS),
    "a header of exabytes": (header(b"{}", length=2**63), WEIGHTS),
    "a header of all bits": (header(b"{}", length=2**64 - 1), WEIGHTS),
    "a header of 64 MiB": (header(b"{}", length=64 * MIB, data=65 * MIB), WEIGHTS),
    "a header of brackets": (header(b'{"x":' + b"[" * MIB), WEIGHTS),
    "a header of digits": (header(b'{"x":' + b"9" * MIB + b"}"), WEIGHTS),
    "a header that is no object": (header(b"[1]"), WEIGHTS),
    "a tensor that is no object": (header(b'{"x":1}'), WEIGHTS),
    "integers": (tensor(dtype="I64", data_offsets=[0, 32]), WEIGHTS),
    "a dtype that is a list": (tensor(dtype=[]), WEIGHTS),
    "a shape that overflows": (tensor(shape=[2**32, 2**32], data_offsets=[0, 0]), WEIGHTS),
    "a shape below nothing": (tensor(shape=[-2, -2]), WEIGHTS),
    "a shape of texts": (tensor(shape=["2", "2"]), WEIGHTS),
    "a shape of fractions": (tensor(shape=[2.5, 2]), WEIGHTS),
    "a shape without end": (tensor(shape=[2**62]), WEIGHTS),
    "offsets before the data": (tensor(data_offsets=[-16, 0]), WEIGHTS),
    "offsets that run backwards": (tensor(data_offsets=[16, 0]), WEIGHTS),
    "three offsets": (tensor(data_offsets=[0, 8, 16]), WEIGHTS),
    "an index above": (index("../model.safetensors"), INDEX),
    "an index anywhere": (index("/etc/passwd"), INDEX),
    "an index to itself": (index("."), INDEX),
    "an index with a zero": (index("a\0b"), INDEX),
    "an index of holes": (lambda m: (index("x")(m), large(INDEX, 1 << 40)(m)), INDEX),
    "a queue": (fifo, WEIGHTS),
    "a config of holes": (large("config.json", 1 << 40), "config.json"),
    "a config of brackets": (written("config.json", b"[" * MIB), "config.json"),
    "a config of digits": (written("config.json", b'{"x":' + b"9" * MIB + b"}"), "config.json"),
    "a config that is no text": (written("config.json", b"\xff\xfe\x00"), "config.json"),
    "layers without end": (config(num_hidden_layers=10**12), "config.json"),
    "experts without end": (config(num_experts=10**9), "config.json"),
    "many layers of many experts": (config(num_hidden_layers=4000, num_experts=10**6), "config.json"),
    "a width without end": (config(hidden_size=10**30), "config.json"),
    "a vocabulary of a fraction": (config(vocab_size=1.5), "config.json"),
    "a head of text": (config(head_dim="wide"), "config.json"),
    "layers by name": (config(mlp_only_layers=[[]]), "config.json"),
    "an end of text": (config(eos_token_id="</s>"), "eos_token_id"),
    "no end of an end": (config(eos_token_id=[2**40]), "eos_token_id"),
    "rope of text": (config(rope_theta="fast", rope_parameters=None), "config.json"),
    "rope of a list": (config(rope_parameters=[1]), "config.json"),
    "a tokenizer of holes": (large("tokenizer.json", 1 << 40), "tokenizer.json"),
    "a tokenizer cut off": (lambda m: os.truncate(m / "tokenizer.json", 400), "tokenizer.json"),
    "a tokenizer of brackets": (written("tokenizer.json", b'{"model":' + b"[" * MIB), "tokenizer.json"),
    "a template that is no text": (written("chat_template.jinja", b"\xff\xfe"), "chat_template.jinja"),
    "a template of holes": (
        lambda m: (written("chat_template.jinja", b"")(m), large("chat_template.jinja", 1 << 40)(m)),
        "chat_template.jinja",
    ),
    "a template that is a number": (
        written("tokenizer_config.json", b'{"chat_template": 7}'),
        "tokenizer_config.json",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_told_in_a_line(name: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, file = DAMAGES[name]
    damage(model)
    tracemalloc.start()
    try:
        code = run_command(["up", "--model", str(model), "--data", str(model.parent / "data"), "--port", "0"])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    told = capsys.readouterr().err
    assert code == UNREACHABLE
    assert told.startswith("xpod: --model: ")
    assert told.count("\n") == 1
    assert file in told
    assert len(told) < 2000
    assert peak < 256 * MIB
    assert not (model.parent / "data" / "state.json").exists()


@pytest.mark.parametrize(
    "name", ["../../etc", "/etc/passwd", "a\0b", "~nobody-has-this-name/x", "", "x" * 5000]
)
def test_a_path_that_is_no_model(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run_command(["up", "--model", name, "--data", str(tmp_path / "data"), "--port", "0"])
    told = capsys.readouterr().err
    assert code == UNREACHABLE
    assert told.startswith("xpod: --model: ")
    assert told.count("\n") == 1
