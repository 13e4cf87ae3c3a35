"""Pieces: one after another they are the wire form, and tensors are not copied into them."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings

from proto.wire_strategies import ANY_MESSAGE, EXAMPLES, wire_fields
from xpod_proto import (
    BlockData,
    ExpertReply,
    FetchBlocks,
    Message,
    StoreBlocks,
    Tensor,
    encode,
    pieces_of,
    size_of,
)
from xpod_proto.pieces import EXT_PART


@settings(EXAMPLES, max_examples=400)
@given(ANY_MESSAGE)
def test_pieces_are_the_wire_form_that_msgpack_packs(message: Message) -> None:
    pieces = pieces_of(message)
    whole = b"".join(pieces)
    assert whole == encode(message) == msgpack.packb(wire_fields(message))
    assert size_of(pieces) == len(whole)


def test_a_tensor_is_a_piece_itself() -> None:
    array = np.zeros(1000, "<f4")
    pieces = pieces_of(ExpertReply(Tensor.of(array)))
    array[:] = 1
    assert array.tobytes() in [bytes(piece) for piece in pieces]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 70_000])
def test_parts_of_any_number(count: int) -> None:
    block = BlockData(b"n", 1, 2, Tensor("u8", (1,), b"x"))
    part = msgpack.ExtType(EXT_PART, encode(block))
    assert encode(StoreBlocks((block,) * count)) == msgpack.packb([113, [part] * count])


def test_after_an_error_the_next_message_is_whole() -> None:
    bad = FetchBlocks.__new__(FetchBlocks)
    object.__setattr__(bad, "names", (b"good", object()))
    object.__setattr__(bad, "lease", 0.0)
    with pytest.raises(TypeError, match="no wire form"):
        encode(bad)
    assert encode(FetchBlocks((b"x",))) == msgpack.packb([116, [b"x"], 0.0])
