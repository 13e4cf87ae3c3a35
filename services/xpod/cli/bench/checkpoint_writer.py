"""The benchmark model's directory: written a chunk at a time, found again when it is whole.

Knows: the safetensors format, Hugging Face's file names, and the recipe file that says whose directory it is.
Does not know: what the weights are, or who watches.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from xpod.cli.bench.recipe import Recipe
from xpod.cli.bench.vocabulary import CHAT_TEMPLATE, generation_config, tokenizer, tokenizer_config
from xpod.cli.bench.weights import tensor_bits
from xpod.cli.errors import BAD_USAGE, CliError
from xpod_model.families.base import Shape

Tensors = Sequence[tuple[str, Shape]]
RECIPE = "xpod_bench.json"
INDEX = "model.safetensors.index.json"
BYTES = 2


class CheckpointWriter:
    """Writes one recipe into one directory. Another's directory is refused, half of our own is written again."""

    def __init__(self, directory: Path, recipe: Recipe) -> None:
        self.directory = directory
        self._recipe = recipe
        self._shards = list(recipe.shards())
        self.total_bytes = sum(data_bytes(tensors) for tensors in self._shards)

    @property
    def complete(self) -> bool:
        """All files are there in their sizes. Raises CliError when the directory holds something else."""
        sizes = dict(self._claimed().get("files") or {})
        return bool(sizes) and all(_size(self.directory / name) == size for name, size in sizes.items())

    def write(self, advance: Callable[[int], None]) -> None:
        """Everything, the recipe first and last; `advance` hears of each number of bytes."""
        self._write_json(RECIPE, {"recipe": self._recipe.as_json()})
        names = self._shard_names()
        for name, tensors in zip(names, self._shards, strict=True):
            write_shard(self.directory / name, tensors, self._recipe.seed, advance)
        self._write_described(names)
        files = {path.name: path.stat().st_size for path in sorted(self.directory.iterdir())}
        described = {name: size for name, size in files.items() if name != RECIPE and name[0] != "."}
        self._write_json(RECIPE, {"recipe": self._recipe.as_json(), "files": described})

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Makes the directory, and waits until no other process writes in it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _claimed(self) -> dict[str, Any]:
        """What the recipe file says; empty where there is no directory yet."""
        if not self.directory.is_dir() or not any(self.directory.iterdir()):
            return {}
        try:
            written: dict[str, Any] = json.loads((self.directory / RECIPE).read_bytes())
        except (OSError, ValueError):
            raise CliError(f"--out: {self.directory} holds something else", BAD_USAGE) from None
        if written.get("recipe") != self._recipe.as_json():
            raise CliError(f"--out: {self.directory} holds a benchmark model of another recipe", BAD_USAGE)
        return written

    def _shard_names(self) -> list[str]:
        count = len(self._shards)
        return [f"model-{index:05}-of-{count:05}.safetensors" for index in range(1, count + 1)]

    def _write_described(self, names: Sequence[str]) -> None:
        weights = {
            tensor: name for name, tensors in zip(names, self._shards, strict=True) for tensor, _ in tensors
        }
        self._write_json(INDEX, {"metadata": {"total_size": self.total_bytes}, "weight_map": weights})
        self._write_json("config.json", self._recipe.config())
        self._write_json("generation_config.json", generation_config())
        self._write_json("tokenizer.json", tokenizer(self._recipe.vocab))
        self._write_json("tokenizer_config.json", tokenizer_config(self._recipe))
        (self.directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")

    def _write_json(self, name: str, value: object) -> None:
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        (self.directory / name).write_text(text, encoding="utf-8")


def write_shard(path: Path, tensors: Tensors, seed: int, advance: Callable[[int], None]) -> None:
    """One safetensors file, under its name only once it is whole."""
    partial = path.with_name(f".{path.name}")
    try:
        with partial.open("wb") as file:
            file.write(header(tensors))
            for name, shape in tensors:
                for bits in tensor_bits(seed, name, shape):
                    file.write(bits.data)
                    advance(bits.nbytes)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def header(tensors: Tensors) -> bytes:
    """The length, then JSON padded with spaces, so that the data begins on a multiple of eight bytes."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name, shape in tensors:
        end = begin + BYTES * prod(shape)
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def data_bytes(tensors: Tensors) -> int:
    return sum(BYTES * prod(shape) for _, shape in tensors)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
