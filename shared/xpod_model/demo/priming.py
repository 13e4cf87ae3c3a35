"""Where training starts: random weights, but for a few heads that can already look back.

A budget of some million tokens is too small for attention to discover copying by itself (a run without this had
learnt none after a million), so the first layers start with the circuit it would discover. Layer 0 has
heads that attend 1, 2, 3 and 4 tokens back and write what stood there into a part of the residual of its own; layers
1 and 2 have heads that match those parts between positions and copy the token found. Training may change all of it.

It knows a network's weights and the rotation of its positions. It knows nothing of training or data.
"""

from typing import cast

import torch
from torch import Tensor

from xpod_model.demo.network import Config, Layer, Network

__all__ = ["prime"]

OFFSETS = 4
CONSTANT = 0  # the one dimension that is the same for every token: what a head that ignores content can see
WEIGHTS = (0.4, 0.3, 0.2, 0.1)  # of the fastest rotations, so that a score peaks at one offset
# Layer, key head, the offset its keys read, the offsets its four queries read.
MATCHES = ((1, 0, 1, (0, 0, 1, 2)), (1, 1, 4, (3, 2, 4, 1)), (2, 0, 3, (2, 1, 3, 0)), (2, 1, 2, (1, 0, 2, 3)))
WRITTEN, COPIED = 0.3, 0.5  # how loud the heads are at first


def part(offset: int, size: int) -> slice:
    """The dimensions of the residual that hold the token `offset` back."""
    return slice(1 + offset * size, 1 + (offset + 1) * size)


@torch.no_grad()
def prime(network: Network) -> None:
    c = network.config
    embedding = network.embedding
    embedding.normal_(std=0.1)
    embedding[:, part(1, c.head_size).start : part(OFFSETS, c.head_size).stop] *= 0.3  # room to write in
    embedding[:, CONSTANT] = 0.6
    network.final_norm.fill_(0.3)
    look_back(network, c)
    for layer, head, keys, queries in MATCHES:
        match(network, layer, head, keys, queries)


def look_back(network: Network, c: Config) -> None:
    """Query heads 0 to 3 of layer 0 attend 1 to 4 tokens back and write the token into parts 1 to 4."""
    layer, n = cast(Layer, network.layers[0]), len(WEIGHTS)
    half = c.head_size // 2
    angle = c.theta ** (-torch.arange(n) / half)
    size = torch.tensor(WEIGHTS).sqrt()
    clear(layer.k, 0, c.head_size)[:n, CONSTANT] = size
    clear(layer.v, 0, c.head_size)[:, part(0, c.head_size)] = torch.eye(c.head_size)
    for i in range(OFFSETS):
        query = clear(layer.q, i, c.head_size)
        query[:n, CONSTANT] = size * torch.cos((i + 1) * angle)
        query[half : half + n, CONSTANT] = -size * torch.sin((i + 1) * angle)
        columns = slice(i * c.head_size, (i + 1) * c.head_size)
        layer.o[part(i + 1, c.head_size), columns] = WRITTEN * torch.eye(c.head_size)


def match(network: Network, index: int, head: int, keys: int, queries: tuple[int, ...]) -> None:
    """Key head `head` reads part `keys`, its query heads read parts `queries`; what matches is copied."""
    c = network.config
    layer, group, size = cast(Layer, network.layers[index]), c.heads // c.key_heads, c.head_size
    half = size // 2
    rows = [*range(half // 2, half), *range(half + half // 2, size)]  # rotations too slow to spoil a match
    eye = torch.eye(size)[: len(rows)]
    clear(layer.k, head, size)[rows, part(keys, size)] = eye
    copied = slice(c.hidden - (head + 1) * size, c.hidden - head * size)
    clear(layer.v, head, size)[:, copied] = torch.eye(size)
    for i, offset in enumerate(queries):
        place = head * group + i
        clear(layer.q, place, size)[rows, part(offset, size)] = eye
        layer.o[copied, place * size : (place + 1) * size] = COPIED * torch.eye(size)


def clear(weight: Tensor, head: int, size: int) -> Tensor:
    """The rows of `weight` that make head `head`, set to zero."""
    rows = weight[head * size : (head + 1) * size]
    return rows.zero_()
