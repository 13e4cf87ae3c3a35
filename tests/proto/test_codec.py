"""Round trips of every message type, and what must never change on the wire."""

from __future__ import annotations

import dataclasses
import math
import struct
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings

from proto.wire_strategies import ANY_MESSAGE, ENTRIES, EXAMPLES, NAMES, sample, wire_fields
from xpod_proto import (
    Ack,
    BlockData,
    DecodeError,
    ExpertReply,
    Heartbeat,
    Message,
    SamplingSpec,
    StoreBlocks,
    Tensor,
    decode,
    encode,
    messages,
)
from xpod_proto.registry import BY_CLASS, BY_TAG, Entry, message

TAGS = {
    1: "Ack",
    2: "ErrorReply",
    3: "ChunkOpen",
    4: "Chunk",
    5: "Credit",
    6: "Framed",
    16: "Hello",
    17: "Heartbeat",
    18: "Down",
    19: "RollCall",
    20: "Holdings",
    21: "Placement",
    32: "SamplingSpec",
    48: "PrefillTask",
    64: "DecodeTask",
    65: "CancelSession",
    66: "ReplayTokens",
    67: "TokenHistory",
    80: "TokenEvent",
    81: "PrefillDone",
    82: "SessionFailed",
    96: "ExpertCall",
    97: "ExpertReply",
    112: "BlockData",
    113: "StoreBlocks",
    114: "MatchBlocks",
    115: "MatchedBlocks",
    116: "FetchBlocks",
    117: "FetchedBlocks",
    118: "NewBlock",
    119: "AllocBlocks",
    120: "BlockPart",
    121: "FillBlocks",
    122: "InsertBlocks",
    123: "FreeBlocks",
    124: "DeleteBlocks",
    125: "SwapOut",
    126: "SwapIn",
    127: "BlockFlags",
    160: "TransferBlocks",
    161: "ListBlocks",
    162: "BlockList",
    163: "BlocksChanged",
}


@settings(EXAMPLES, max_examples=600)
@given(ANY_MESSAGE)
def test_round_trip(message: Message) -> None:
    data = encode(message)
    back = decode(data)
    assert type(back) is type(message)
    assert back == message
    assert encode(back) == data  # types of values too: 1, 1.0 and True are equal but not the same bytes


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_decode_reads_any_buffer(wrap: Any) -> None:
    assert decode(wrap(encode(Ack("x")))) == Ack("x")


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_every_type_has_a_sample_that_survives(entry: Entry) -> None:
    assert decode(encode(sample(entry))) == sample(entry)


def test_tags_never_change() -> None:
    now = {tag: entry.cls.__name__ for tag, entry in BY_TAG.items()}
    assert {tag: now.get(tag) for tag in TAGS} == TAGS


def test_every_message_is_exported_and_has_one_tag() -> None:
    exported = {name for name in messages.__all__ if name != "Value"}
    assert exported == {cls.__name__ for cls in BY_CLASS} == set(NAMES)
    assert len(BY_CLASS) == len(BY_TAG)


def test_a_tag_is_taken_once() -> None:
    class Twin(Message):
        pass

    with pytest.raises(AssertionError, match="tag 1 is taken by Ack"):
        message(1)(Twin)
    assert BY_TAG[1].cls is Ack


def test_the_bytes_of_a_heartbeat() -> None:
    beat = Heartbeat("m", "decode", "i", 300, "up", {"a": 0.5, "b": True, "c": -1, "d": "x"})
    head = b"\x97\x11\xa1m\xa6decode\xa1i\xcd\x01\x2c\xa2up"
    assert encode(beat) == head + b"\x84\xa1a\xcb\x3f\xe0" + bytes(6) + b"\xa1b\xc3\xa1c\xff\xa1d\xa1x"


def test_the_bytes_of_a_tensor() -> None:
    frame = b"\x05\x02" + b"\x01\0\0\0" + b"\x02\0\0\0" + b"abcd"
    assert encode(ExpertReply(Tensor("bf16", (1, 2), b"abcd"))) == b"\x94\x61\xc7\x0e\x01" + frame + b"\0\0"


def test_the_bytes_of_a_part() -> None:
    block = BlockData(b"nn", 16, 7, Tensor("u8", (0,), b""))
    part = b"\x95\x70\xc4\x02nn\x10\x07\xc7\x06\x01\x01\x01\0\0\0\0"
    assert encode(block) == part
    assert encode(StoreBlocks((block,))) == b"\x92\x71\x91\xc7\x11\x02" + part


@pytest.mark.parametrize(
    "entry", [e for e in ENTRIES if e.required < len(e.fields)], ids=lambda e: e.cls.__name__
)
def test_an_older_sender_leaves_out_trailing_fields(entry: Entry) -> None:
    whole = wire_fields(sample(entry))
    defaults = {spec.name: spec.default for spec in dataclasses.fields(entry.cls)}  # type: ignore[arg-type]
    for count in range(entry.required, len(entry.fields)):
        back = decode(msgpack.packb(whole[: count + 1]))
        for name in entry.fields[:count]:
            assert getattr(back, name) == getattr(sample(entry), name)
        for name in entry.fields[count:]:
            assert getattr(back, name) == defaults[name]


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_the_number_of_fields_is_checked(entry: Entry) -> None:
    whole = wire_fields(sample(entry))
    with pytest.raises(DecodeError, match="fields, got"):
        decode(msgpack.packb([*whole, 1]))
    if entry.required:
        with pytest.raises(DecodeError, match="fields, got"):
            decode(msgpack.packb(whole[: entry.required]))


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_messages_are_frozen(entry: Entry) -> None:
    built = sample(entry)
    name = entry.fields[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(built, name, getattr(built, name))
    assert not hasattr(built, "__dict__")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("min_p", 1.1),
        ("repetition_penalty", 0.0),
        ("min_tokens", -1),
        ("logprobs", -2),
    ],
)
def test_sampling_bounds(field: str, value: float) -> None:
    fields = wire_fields(SamplingSpec(1, 1, logprobs=0))
    fields[1 + BY_CLASS[SamplingSpec].fields.index(field)] = value
    with pytest.raises(DecodeError, match=field):
        decode(msgpack.packb(fields))


def test_a_token_index_is_not_negative() -> None:
    with pytest.raises(DecodeError, match=r"TokenEvent\.index"):
        decode(msgpack.packb([80, "s", 0, -1, 5, 0.0]))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 5e-324])
def test_odd_floats_keep_their_bits(value: float) -> None:
    data = encode(Heartbeat("m", "k", "i", 0, "up", {"x": value}))
    assert data.endswith(struct.pack(">d", value))
    assert encode(decode(data)) == data


class Stranger(Message):
    """A message that nobody registered."""


@pytest.mark.parametrize("value", [Stranger(), Message()])
def test_encode_refuses_the_unregistered(value: Message) -> None:
    with pytest.raises(TypeError, match="not a registered message"):
        encode(value)
