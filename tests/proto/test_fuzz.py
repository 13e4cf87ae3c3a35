"""Bytes from anyone: `decode` returns a message or raises DecodeError, in memory that its input bounds.

Measured with msgpack 1.2 and pydantic 2.14: at worst 82 bytes per byte read (an array of empty maps), and 8 MiB
beside it for arrays that claim to be longer than they are.
"""

from __future__ import annotations

import itertools
import struct
import tracemalloc
import types
from typing import Annotated, Any, Union, get_args, get_origin

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto.wire_strategies import ANY_MESSAGE, ENTRIES, EXAMPLES, NAMES, hints, sample, wire_fields
from xpod_proto import DecodeError, Message, Tensor, decode, encode
from xpod_proto.registry import Entry

PEAK_FACTOR = 100
FIXED = 256 << 10
LIES = 18 << 20
ELEMENTS = 8_000


def outcome(data: bytes) -> Message | DecodeError:
    try:
        return decode(data)
    except DecodeError as error:
        problem = error
    assert "\n" not in str(problem)
    assert len(str(problem)) < 1000
    return problem


def total(data: bytes) -> None:
    """Nothing but a message or a DecodeError; a message is whole enough to be said again and looked into."""
    result = outcome(data)
    if isinstance(result, Message):
        encode(result)
        for name in type(result).__slots__:  # type: ignore[attr-defined]
            value = getattr(result, name)
            if isinstance(value, Tensor):
                assert value.numpy().shape == value.shape


def peak(data: bytes) -> int:
    tracemalloc.start()
    try:
        outcome(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@settings(EXAMPLES, max_examples=500)
@given(st.binary(max_size=200))
def test_arbitrary_bytes(data: bytes) -> None:
    total(data)


@settings(EXAMPLES, max_examples=500)
@given(st.sampled_from(ENTRIES), st.binary(max_size=60), st.integers(0, 15))
def test_arbitrary_bytes_behind_a_tag(entry: Entry, rest: bytes, fields: int) -> None:
    total(bytes([0x90 + fields, entry.tag]) + rest)


Json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=12)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20))
    | st.builds(msgpack.Timestamp, st.integers(0, 2**33)),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.integers(-9, 9), inner)
    ),
    max_leaves=8,
)


@settings(EXAMPLES, max_examples=300)
@given(st.sampled_from(ENTRIES), st.data())
def test_well_formed_nonsense_in_every_field(entry: Entry, data: st.DataObject) -> None:
    fields = wire_fields(sample(entry))
    for index in data.draw(st.sets(st.integers(1, len(fields) - 1), min_size=1)):
        fields[index] = data.draw(Json)
    total(msgpack.packb(fields))


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    data = bytearray(encode(draw(ANY_MESSAGE)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1)) if data else 0
        match draw(st.sampled_from(["flip", "cut", "insert", "swap", "longer"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at:]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=5))
            case "swap" if at + 1 < len(data):
                data[at], data[at + 1] = data[at + 1], data[at]
            case "longer" if data:
                data[at] = (data[at] + 1) % 256
    return bytes(data)


@settings(EXAMPLES, max_examples=500)
@given(mutations())
def test_mutated_messages(data: bytes) -> None:
    total(data)


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_every_truncation_is_refused(entry: Entry) -> None:
    data = encode(sample(entry))
    for end in range(len(data)):
        with pytest.raises(DecodeError):
            decode(data[:end])
    with pytest.raises(DecodeError):
        decode(data + b"\0")


WRONG: dict[str, Any] = {
    "nil": None,
    "bool": True,
    "int": 5,
    "negative": -(2**63),
    "float": 1.5,
    "str": "s",
    "bytes": b"s",
    "array": [],
    "map": {},
    "tensor": msgpack.ExtType(1, bytes([1, 1, 0, 0, 0, 0])),
    "part": msgpack.ExtType(2, b"\x91\x01"),
    "time": msgpack.Timestamp(5),
}
FITS: dict[Any, set[str]] = {
    int: {"int", "negative"},
    float: {"float", "int", "negative"},
    str: {"str"},
    bytes: {"bytes"},
    bool: {"bool"},
    Tensor: {"tensor"},
    tuple: {"array"},
    dict: {"map"},
}


def fitting(hint: Any) -> set[str]:
    origin = get_origin(hint)
    if origin is Annotated:
        return fitting(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return set().union(*map(fitting, get_args(hint)))
    return FITS.get(origin or hint, set())


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_a_wrong_type_in_each_field(entry: Entry) -> None:
    for (index, (name, hint)), (kind, value) in itertools.product(
        enumerate(hints(entry).items(), 1), WRONG.items()
    ):
        fields = wire_fields(sample(entry))
        fields[index] = value
        data = msgpack.packb(fields)
        if kind not in fitting(hint):
            with pytest.raises(DecodeError, match=rf"^{entry.cls.__name__}\.{name}"):
                decode(data)
        total(data)


def ext(code: int, payload: bytes) -> bytes:
    return b"\xc9" + struct.pack(">Ib", len(payload), code) + payload


def tensor(dtype: int, rank: int, *shape: int, data: bytes = b"") -> bytes:
    return b"\x92\x61" + ext(1, struct.pack(f"<BB{len(shape)}I", dtype, rank, *shape) + data)


def nested_parts(depth: int) -> bytes:
    data = b"\x91\x01"
    for _ in range(depth):
        data = b"\x92\x61" + ext(2, data)
    return data


BIG = 2**32 - 1
BAD = {
    "empty": b"",
    "nil": b"\xc0",
    "empty array": b"\x90",
    "map": b"\x80",
    "reserved byte": b"\xc1",
    "tag is a bool": b"\x91\xc3",
    "tag is a float": b"\x91\xcb" + bytes(8),
    "tag is nil": b"\x91\xc0",
    "tag is an array": b"\x91\x90",
    "tag is huge": b"\x91\xcf" + b"\xff" * 8,
    "unknown tag": b"\x91\x7f",
    "two messages": b"\x91\x01\x91\x01",
    "invalid utf-8": b"\x92\x01\xa2\xff\xfe",
    "unhashable key": b"\x92\x01\x81\x80\x01",
    "deep arrays": b"\x91" * 100_000,
    "deep maps": b"\x81\x01" * 100_000,
    "deep in a field": b"\x92\x01" + b"\x91" * 1022 + b"\xc0",
    "array of 4 G": b"\xdd" + struct.pack(">I", BIG),
    "map of 4 G": b"\xdf" + struct.pack(">I", BIG),
    "bytes of 4 G": b"\x92\x01\xc6" + struct.pack(">I", BIG),
    "text of 4 G": b"\x92\x01\xdb" + struct.pack(">I", BIG),
    "ext of 4 G": b"\x92\x61\xc9" + struct.pack(">Ib", BIG, 1),
    "ext -1, short": b"\x92\x61" + ext(-1, b"abc"),
    "ext -1": b"\x92\x61" + ext(-1, bytes(4)),
    "ext unknown": b"\x92\x61" + ext(99, b""),
    "part in part": nested_parts(2),
    "parts, deep": nested_parts(300),
    "part of garbage": b"\x92\x61" + ext(2, b"\xc1"),
    "part empty": b"\x92\x61" + ext(2, b""),
    "tensor empty": b"\x92\x61" + ext(1, b""),
    "tensor of no dtype": tensor(0, 0),
    "tensor rank 255": tensor(1, 255),
    "tensor rank 9": tensor(1, 9, *[1] * 9, data=b"x"),
    "tensor header cut": tensor(1, 2, 5),
    "tensor too short": tensor(4, 1, 2, data=bytes(7)),
    "tensor too long": tensor(4, 1, 2, data=bytes(9)),
    "tensor huge": tensor(4, 8, *[BIG] * 8),
    "tensor empty but huge": tensor(4, 8, 0, *[BIG] * 7),
}


@pytest.mark.parametrize("name", BAD)
def test_hand_made_bombs(name: str) -> None:
    data = BAD[name]
    assert isinstance(outcome(data), DecodeError)
    assert peak(data) < PEAK_FACTOR * len(data) + FIXED


def array(count: int, element: bytes) -> bytes:
    return b"\xdd" + struct.pack(">I", count) + element * count


def keys(count: int, value: bytes) -> bytes:
    return b"\xdf" + struct.pack(">I", count) + b"".join(msgpack.packb(i) + value for i in range(count))


MANY = {
    "nil": array(ELEMENTS, b"\xc0"),
    "floats": array(ELEMENTS, b"\xcb" + bytes(8)),
    "pairs": array(ELEMENTS, b"\x92\x01\x02"),
    "texts": array(ELEMENTS, b"\xa2ab"),
    "bytes": array(ELEMENTS, b"\xc4\x01a"),
    "empty maps": array(ELEMENTS, b"\x80"),
    "maps": array(ELEMENTS, b"\x81\xc0\xc0"),
    "times": array(ELEMENTS, b"\xd6\xff" + bytes(4)),
    "tensors": array(ELEMENTS, b"\xc7\x06\x01\x01\x01" + bytes(4)),
    "parts": array(ELEMENTS, b"\xd5\x02\x91\x01"),
    "map to nil": keys(ELEMENTS, b"\xc0"),
    "map to bytes": keys(ELEMENTS, b"\xc4\x00"),
    "map to maps": keys(ELEMENTS, b"\x80"),
    "map of maps": b"\x81\x01" + keys(ELEMENTS, b"\xc0"),
    "named map of maps": b"\x81\xa1a" + keys(ELEMENTS, b"\xc0"),
}
HOMES = {
    "Heartbeat.load": b"\x97\x11\xa0\xa0\xa0\x00\xa0",
    "Holdings.layers": b"\x95\x14\xa0\xa0\x00",
    "Placement.shards": b"\x94\x15\x00\xa0",
    "TokenEvent.top": b"\x98\x50\xa0\x00\x00\x00\x00\xa0",
    "MatchBlocks.names": b"\x92\x72",
    "StoreBlocks.blocks": b"\x92\x71",
    "MatchedBlocks.present": b"\x92\x73",
}


@pytest.mark.parametrize(("home", "content"), [(h, c) for h in HOMES for c in MANY])
def test_many_elements_take_memory_in_proportion(home: str, content: str) -> None:
    data = HOMES[home] + MANY[content]
    assert peak(data) < PEAK_FACTOR * len(data) + FIXED


@pytest.mark.parametrize("claim", [1024, 1025, 1 << 17])
def test_nested_claims_do_not_multiply(claim: int) -> None:
    headers = (b"\xdd" + struct.pack(">I", claim)) * 1000
    data = b"\x92\x01" + headers + b"\xc0" * (1 << 17)
    assert isinstance(outcome(data), DecodeError)
    assert peak(data) < PEAK_FACTOR * len(data) + LIES
    part = b"\x93\x61" + headers + ext(2, data)
    assert isinstance(outcome(part), DecodeError)
    assert peak(part) < PEAK_FACTOR * len(part) + LIES


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 50_000])
def test_long_arrays_are_fine(count: int) -> None:
    fields = [115, [True] * count]
    assert wire_fields(decode(msgpack.packb(fields))) == fields


def test_the_reason_is_one_short_line_whatever_the_key() -> None:
    error = outcome(msgpack.packb([17, "m", "k", "i", 1, "up", {"a\nb" * 10_000: None}]))
    assert isinstance(error, DecodeError)
    assert str(error).startswith("Heartbeat.load.a\\nba\\nb")
