"""The two readers agree: what is read without msgpack is what msgpack would have given, or is left to it."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto.wire_strategies import EXAMPLES, messages, tensors
from xpod_proto import Ack, DecodeError, ExpertCall, ExpertReply, Message, Tensor, codec, decode, encode
from xpod_proto.bare import read_bare
from xpod_proto.registry import BY_CLASS

BARE = [entry for entry in BY_CLASS.values() if entry.bare]
LARGE = Tensor("u8", (70_000,), bytes(70_000))


def by_msgpack(data: bytes) -> Message:
    return codec._decode(data, codec._unpack_ext)


def test_the_messages_of_the_hop_are_bare() -> None:
    assert {ExpertCall, ExpertReply} <= {entry.cls for entry in BARE}


@settings(EXAMPLES, max_examples=300)
@given(st.one_of([messages(entry) for entry in BARE]))
def test_bare_messages_are_read(message: Message) -> None:
    assert read_bare(encode(message)) == message == by_msgpack(encode(message))


@pytest.mark.parametrize("size", [0, 1, 10, 250, 255, 256, 65_530, 65_536, 200_000])
def test_every_size_of_extension(size: int) -> None:
    reply = ExpertReply(Tensor("u8", (size,), bytes(size)))
    assert read_bare(encode(reply)) == reply == by_msgpack(encode(reply))


@pytest.mark.parametrize("layer", [0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1])
def test_every_size_of_number(layer: int) -> None:
    call = ExpertCall(layer, LARGE, LARGE, LARGE)
    assert read_bare(encode(call)) == call == by_msgpack(encode(call))


@settings(EXAMPLES, max_examples=500)
@given(tensors(), st.data())
def test_whatever_is_read_means_the_same_to_msgpack(tensor: Tensor, data: st.DataObject) -> None:
    raw = bytearray(encode(ExpertCall(3, tensor, tensor, tensor)))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    read = read_bare(raw)
    if read is not None:
        assert read == by_msgpack(bytes(raw))


def test_the_elements_are_the_message_s_own() -> None:
    data = bytearray(encode(ExpertReply(Tensor("u8", (3,), b"abc"))))
    reply = decode(data)
    data[-3:] = b"xyz"
    assert reply == ExpertReply(Tensor("u8", (3,), b"abc"))


def test_a_number_out_of_bounds_is_an_error_as_ever() -> None:
    call = msgpack.unpackb(encode(ExpertCall(0, LARGE, LARGE, LARGE)))
    call[1] = -1
    with pytest.raises(DecodeError, match=r"^ExpertCall\.layer"):
        decode(msgpack.packb(call))


def test_others_are_left_alone() -> None:
    assert read_bare(encode(Ack("x"))) is None
    assert read_bare(b"") is None
    assert read_bare(memoryview(b"\x92")) is None
