"""The KV cache: blocks of tokens, all layers, given out and taken back by number.

It knows planes of numbers, not what attention does with them, and not whose a block is.

Layout, per layer: [planes, blocks, block_tokens, plane width]. A plane is one head of K or of V: a gather by block
gives every plane of a sequence as one contiguous [tokens, width] matrix, which is what a matrix product wants.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xpod_model.config import ModelConfig
from xpod_model.errors import CacheFull
from xpod_model.mirror import Mirrors
from xpod_model.pages import Pages
from xpod_model.tensors import DTYPES, copy_rows

BLOCK_TOKENS = 16
# the most that decoding batches' gathered keys and values may take beside the cache
MIRROR_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class KVSpec:
    """widths: elements per token, per layer. plane: how wide each of a layer's planes is (0: one plane)."""

    widths: tuple[int, ...]
    dtype: str
    block_tokens: int = BLOCK_TOKENS
    plane: int = 0

    @classmethod
    def of(cls, config: ModelConfig, dtype: str = "auto", block_tokens: int = BLOCK_TOKENS) -> "KVSpec":
        return cls(
            config.kv_widths, config.dtype if dtype == "auto" else dtype, block_tokens, config.head_dim
        )

    @property
    def bytes_per_token(self) -> int:
        return sum(self.widths) * DTYPES[self.dtype].itemsize

    @property
    def bytes_per_block(self) -> int:
        return self.block_tokens * self.bytes_per_token

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_tokens)


class KVCache:
    """`num_blocks` blocks on one device. A fresh block reads as zeros: stale numbers would poison masked products."""

    def __init__(
        self, spec: KVSpec, num_blocks: int, device: str = "cpu", mirror_bytes: int = MIRROR_BYTES
    ) -> None:
        self.spec, self.num_blocks, self.device = spec, num_blocks, device
        # one block more than is given out: all zeros, it fills up short block tables
        self.zero_block = num_blocks
        self._pages: list[Pages] = []
        self.layers = [self._new_layer(width) for width in spec.widths]
        self.addresses = [layer.data_ptr() for layer in self.layers]
        self._flat = [layer.flatten(1, 2) for layer in self.layers]  # [planes, tokens, plane width]
        self.mirrors = Mirrors(self.layers, num_blocks + 1, mirror_bytes)
        self._free = list(range(num_blocks - 1, -1, -1))
        self._used = np.zeros(num_blocks, dtype=bool)
        self._fresh: list[bool] = [True] * num_blocks

    def _new_layer(self, width: int) -> Tensor:
        plane = self.spec.plane or width
        shape = (width // plane, self.num_blocks + 1, self.spec.block_tokens, plane)
        dtype = DTYPES[self.spec.dtype]
        if self.device != "cpu":
            return torch.zeros(shape, dtype=dtype, device=self.device)
        pages = Pages(shape, dtype)  # memory is used from a block's first token on, not before
        self._pages.append(pages)
        return pages.tensor

    @property
    def free_blocks(self) -> int:
        return len(self._free)

    def can_alloc(self, n: int) -> bool:
        return n <= len(self._free)

    def alloc(self, n: int) -> list[int]:
        """n blocks, zeroed; raises CacheFull, and then gives out none."""
        if not self.can_alloc(n):
            raise CacheFull(f"{n} KV blocks wanted, {len(self._free)} of {self.num_blocks} are free")
        blocks = [self._free.pop() for _ in range(n)]
        self._used[blocks] = True
        self.mirrors.touch(blocks)
        self._clear([block for block in blocks if not self._fresh[block]])
        return blocks

    def _clear(self, blocks: list[int]) -> None:
        if blocks:
            index = torch.tensor(blocks, device=self.device)
            for layer in self.layers:
                layer.index_fill_(1, index, 0)

    def free(self, blocks: Sequence[int]) -> None:
        """Take blocks back. Freeing what is not in use is a programming error."""
        for block in blocks:
            assert self._used[block], f"KV block {block} is not in use"
            self._used[block] = False
            self._fresh[block] = False
            self._free.append(block)
        self.mirrors.touch(list(blocks))

    def rest(self) -> None:
        """For when nothing is computed: keep no copies, and where no block is in use no memory either.

        Another thread may `alloc` meanwhile, but none may write: zeros it gets either way.
        """
        self.mirrors.clear()
        if not self._used.any() and all(pages.give_back() for pages in self._pages):
            self._fresh = [True] * self.num_blocks

    def slots(self, blocks: Sequence[int], start: int, count: int) -> npt.NDArray[np.int64]:
        """Where tokens start … start + count of a sequence lie: indices for `write`, int64 [count]."""
        size = self.spec.block_tokens
        if count == 1:
            return np.array([blocks[start // size] * size + start % size])
        positions = np.arange(start, start + count)
        table = np.asarray(blocks, dtype=np.int64)
        return table[positions // size] * size + positions % size

    def write(self, layer: int, slots: Tensor, values: Tensor) -> None:
        """values [T, planes, plane width] go to `slots` [T]."""
        copy_rows(self._flat[layer], slots, values.transpose(0, 1))

    def gather(self, layer: int, blocks: Tensor, out: Tensor | None = None) -> Tensor:
        """blocks [N] -> [planes, N * block_tokens, plane width], a copy, in `out` if given."""
        data = self.layers[layer]
        if out is None:
            return data.index_select(1, blocks).flatten(1, 2)
        torch.index_select(data, 1, blocks, out=out.view(data.shape[0], -1, *data.shape[2:]))
        return out

    def export_block(self, block: int, tokens: int | None = None) -> npt.NDArray[np.uint8]:
        """The first `tokens` tokens of a block: for each layer in turn tokens * width elements, uint8, a copy."""
        return self.export_layers(block, tokens, 0, len(self.layers))

    def export_layers(self, block: int, tokens: int | None, first: int, last: int) -> npt.NDArray[np.uint8]:
        """What `export_block` gives of the layers from `first` up to `last`, which is not among them."""
        layers = self.layers[first:last]
        parts = [layer[:, block, :tokens].reshape(-1).view(torch.uint8) for layer in layers]
        return torch.cat(parts).cpu().numpy()

    def export_blocks(self, blocks: Sequence[int], first: int, last: int) -> npt.NDArray[np.uint8]:
        """Of each whole block what `export_layers` gives, [N, bytes]: quicker than one by one."""
        index = torch.tensor(blocks, dtype=torch.int64, device=self.device)
        sizes = [self.spec.block_tokens * width for width in self.spec.widths[first:last]]
        out = torch.empty(len(blocks), sum(sizes), dtype=DTYPES[self.spec.dtype], device=self.device)
        begin = 0
        for layer, size in zip(self.layers[first:last], sizes, strict=True):
            part = layer.index_select(1, index).transpose(0, 1)  # [N, planes, block_tokens, plane width]
            out[:, begin : begin + size].view(part.shape).copy_(part)
            begin += size
        return out.view(torch.uint8).cpu().numpy()

    def import_block(
        self,
        block: int,
        data: npt.NDArray[np.uint8] | bytes | bytearray | memoryview,
        tokens: int | None = None,
    ) -> None:
        """The inverse of `export_block`, bit for bit. Raises ValueError if `data` is not of the right size."""
        count = self.spec.block_tokens if tokens is None else tokens
        raw = np.frombuffer(data, np.uint8)
        if raw.nbytes != count * self.spec.bytes_per_token:
            raise ValueError(
                f"{raw.nbytes} bytes are not {count} tokens of {self.spec.bytes_per_token} bytes"
            )
        self.mirrors.touch([block])
        begin = 0
        for layer, width in zip(self.layers, self.spec.widths, strict=True):
            size = count * width * layer.element_size()
            part = torch.from_numpy(raw[begin : begin + size].copy()).view(layer.dtype)
            target = layer[:, block, :count]
            target.copy_(part.view(target.shape))
            begin += size
