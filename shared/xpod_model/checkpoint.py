"""Weights on disk: which tensor lies where, and a view of its bytes. It copies nothing and does not know torch.

The safetensors format: eight bytes (little-endian) with the length of a JSON header, the header
(name -> dtype, shape, data_offsets), then the data. https://github.com/huggingface/safetensors
"""

import hashlib
import json
import math
import mmap
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xpod_model.config import load_config, read_json
from xpod_model.errors import CheckpointError, FileTruncated, TensorMissing, TensorShape
from xpod_model.families import family_of
from xpod_model.families.base import Family, ModelConfig, Shape, tensor_shapes

Array = npt.NDArray[Any]

# numpy has no bfloat16: its bits travel as uint16
DTYPES: dict[str, tuple[str, type[np.generic]]] = {
    "BF16": ("bf16", np.uint16),
    "F32": ("fp32", np.float32),
    "F16": ("fp16", np.float16),
}
INDEX = "model.safetensors.index.json"
MAX_HEADER = 16 << 20
"""Bytes: some hundred thousand tensors in one file."""
SAMPLED_TENSORS = 256
SAMPLE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor: the file that holds it, its dtype, shape, and byte range in that file."""

    file: Path
    dtype: str
    shape: Shape
    begin: int
    end: int


class Checkpoint:
    """A model directory with its headers read; the data is mapped when first asked for."""

    def __init__(self, directory: Path, config: ModelConfig, entries: dict[str, Entry]) -> None:
        self.directory = directory
        self.config = config
        self.family: Family = family_of(config.model_type)
        self._entries = entries
        self._maps: dict[Path, mmap.mmap] = {}

    @classmethod
    def open(cls, directory: Path) -> "Checkpoint":
        """Read the config and the header of every safetensors file; raises ModelError, in one line."""
        directory = Path(directory)
        config = load_config(directory)
        entries: dict[str, Entry] = {}
        for file in _files(directory):
            entries.update(_read_header(file))
        return cls(directory, config, entries)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._entries))

    def shape(self, name: str) -> Shape:
        return self._entry(name).shape

    def raw(self, name: str) -> tuple[str, Shape, Array]:
        """(dtype: bf16, fp32 or fp16; shape; a mapped view of the bits as uint16, float32 or float16)."""
        entry = self._entry(name)
        label, bits = DTYPES[entry.dtype]
        data = self._map(entry.file)[entry.begin : entry.end]
        if data.nbytes < entry.end - entry.begin:
            raise FileTruncated(f"{entry.file} is truncated: it ends inside tensor {name}")
        return label, entry.shape, data.view(bits).reshape(entry.shape)

    def validate(self) -> None:
        """Check that each tensor of the family is there, whole, in its shape. Reads headers only."""
        for name, expected in tensor_shapes(self.family, self.config):
            self.check(name, expected)

    def check(self, name: str, expected: Shape) -> None:
        found = self._entry(name).shape
        if found != expected:
            file = self._entry(name).file
            raise TensorShape(
                f"tensor {name} has shape {list(found)}, config.json implies {list(expected)} (in {file})"
            )

    @cached_property
    def identity(self) -> str:
        """Hex name of these weights: config, names, dtypes, shapes, and a sample of at most 256 KiB of content.

        Equal directories have equal identities wherever they lie; weights that differ only outside of the
        sample (1 KiB from the middle of each of up to 256 tensors, spread evenly over the sorted names) do not differ.
        """
        digest = hashlib.sha256(repr(self.config).encode())
        for name in self.names:
            entry = self._entries[name]
            digest.update(f"{name} {entry.dtype} {entry.shape}\n".encode())
        for name in self.names[:: max(1, len(self.names) // SAMPLED_TENSORS)]:
            digest.update(self._sample(name))
        return digest.hexdigest()

    def _sample(self, name: str) -> bytes:
        entry = self._entries[name]
        middle = (entry.begin + entry.end) // 2
        begin = max(entry.begin, middle - SAMPLE_BYTES // 2)
        return self._map(entry.file)[begin : min(entry.end, begin + SAMPLE_BYTES)].tobytes()

    def _entry(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise TensorMissing(f"tensor {name} is in no safetensors file of {self.directory}") from None

    def release(self) -> None:
        """Give back the memory of what was read. Views stay good: what they need is read again."""
        for mapped in self._maps.values():
            if hasattr(mapped, "madvise"):
                mapped.madvise(mmap.MADV_DONTNEED)

    def _map(self, file: Path) -> npt.NDArray[np.uint8]:
        if file not in self._maps:
            with file.open("rb") as stream:
                # copy-on-write: nothing writes to it, and torch warns about arrays that are read-only
                self._maps[file] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        return np.frombuffer(self._maps[file], np.uint8)


def _files(directory: Path) -> list[Path]:
    index = directory / INDEX
    if not index.is_file():
        files = sorted(directory.glob("*.safetensors"))
        if not files:
            raise CheckpointError(f"{directory} has no safetensors files")
        return files
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict):
        raise CheckpointError(f"{index} has no weight_map")
    names = sorted({str(name) for name in shards.values()})
    for name in names:
        if Path(name).name != name or "\0" in name:
            raise CheckpointError(f"{index} names {name!r}, which is no file of this directory")
    files = [directory / name for name in names]
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{file} is named in {INDEX} and does not exist")
    return files


def _header(file: Path) -> tuple[int, bytes]:
    """The file's size, and the JSON of its header."""
    try:
        told = file.stat()
        if stat.S_ISFIFO(told.st_mode) or stat.S_ISCHR(told.st_mode) or stat.S_ISSOCK(told.st_mode):
            raise CheckpointError(f"{file} is not a file")
        size = told.st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = stream.read(min(length, MAX_HEADER))
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
    if size < 8 or length > size - 8:
        raise FileTruncated(f"{file} is truncated: it ends inside its header")
    if length > MAX_HEADER:
        raise CheckpointError(f"{file} is not a safetensors file: its header would be {length} bytes long")
    return size, header


def _read_header(file: Path) -> dict[str, Entry]:
    size, header = _header(file)
    try:
        tensors = json.loads(header)
        return {
            name: _entry(file, size, 8 + len(header), name, t)
            for name, t in tensors.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{file} is not a safetensors file: {str(error)[:200]!r}") from error


def _entry(file: Path, size: int, base: int, name: str, tensor: dict[str, Any]) -> Entry:
    dtype, shape = tensor["dtype"], _sizes(tensor["shape"])
    begin, end = (base + offset for offset in _sizes(tensor["data_offsets"]))
    if end > size:
        raise FileTruncated(f"{file} is truncated: {size} bytes, tensor {name} ends at {end}")
    if dtype not in DTYPES:
        raise CheckpointError(f"{file}: tensor {name} has dtype {dtype}; supported: {', '.join(DTYPES)}")
    if end - begin != math.prod(shape) * np.dtype(DTYPES[dtype][1]).itemsize:
        raise CheckpointError(
            f"{file}: tensor {name} has {end - begin} bytes, which is not shape {list(shape)} of {dtype}"
        )
    return Entry(file, dtype, shape, begin, end)


def _sizes(found: Any) -> tuple[int, ...]:
    """Raises ValueError unless they are numbers of something."""
    for each in found:
        if type(each) is not int or each < 0:
            raise ValueError(f"{each!r} is not a size")
    return tuple(found)
