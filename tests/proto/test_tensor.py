"""Tensor frames: numpy in, the same numpy out, and nothing that does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xpod_proto import DecodeError, ExpertReply, Tensor, decode, encode

ARRAYS = [
    ("u8", np.array([0, 255], "u1")),
    ("u16", np.array([0, 65535], "<u2")),
    ("u32", np.array([0, 2**32 - 1], "<u4")),
    ("i32", np.array([[-(2**31)], [2**31 - 1]], "<i4")),
    ("i64", np.array([-(2**63), 2**63 - 1], "<i8")),
    ("fp32", np.array([[np.nan, np.inf], [-0.0, 1e-45]], "<f4")),
    ("bf16", np.array([0x3F80, 0x7FC0, 0x8000], "<u2")),
]


def through(tensor: Tensor) -> Tensor:
    reply = decode(encode(ExpertReply(tensor)))
    assert isinstance(reply, ExpertReply)
    return reply.rows


@pytest.mark.parametrize(("dtype", "array"), ARRAYS, ids=[name for name, _ in ARRAYS])
def test_every_dtype(dtype: str, array: np.ndarray[Any, Any]) -> None:
    back = through(Tensor.of(array, dtype))
    assert (back.dtype, back.shape) == (dtype, array.shape)
    assert back.numpy().dtype == array.dtype
    assert back.numpy().tobytes() == array.tobytes()


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 5), (5, 0), (2, 0, 3), (1,) * 8, (2, 3, 4)])
def test_every_shape(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int), dtype="<i4").reshape(shape)
    back = through(Tensor.of(array))
    assert back.shape == shape
    assert back.tolist() == array.tolist()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype="<i4").reshape(3, 4).T,
        np.arange(12, dtype="<i4")[::-2],
        np.asfortranarray(np.eye(3, dtype="<f4")),
    ],
)
def test_strided_arrays_travel_in_c_order(array: np.ndarray[Any, Any]) -> None:
    assert through(Tensor.of(array)).tolist() == array.tolist()


def test_contiguous_arrays_are_not_copied() -> None:
    array = np.zeros(4, "<f4")
    tensor = Tensor.of(array)
    array[1] = 2.0
    assert tensor.tolist() == [0.0, 2.0, 0.0, 0.0]


@pytest.mark.parametrize("tensor", [Tensor.of(np.zeros(2, "<f4")), through(Tensor.of(np.zeros(2, "<f4")))])
def test_the_view_is_read_only(tensor: Tensor) -> None:
    with pytest.raises(ValueError, match="read-only"):
        tensor.numpy()[0] = 1.0


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.zeros(1, ">f4"), None),
        (np.zeros(1, "f8"), None),
        (np.zeros(1, bool), None),
        (np.zeros(1, "<f4"), "bf16"),
        (np.zeros(1, "<i4"), "u32"),
    ],
)
def test_arrays_without_a_wire_type(array: np.ndarray[Any, Any], dtype: str | None) -> None:
    with pytest.raises(TypeError):
        Tensor.of(array, dtype)


@pytest.mark.parametrize(
    ("dtype", "shape", "data"),
    [
        ("fp64", (1,), bytes(8)),
        ("u8", (-1,), b""),
        ("u8", (1,) * 9, b"x"),
        ("u8", (2,), b"x"),
        ("bf16", (1,), b"x"),
        ("u8", (), b""),
        ("u8", (0, 2**40, 2**40), b""),
    ],
)
def test_frames_that_do_not_fit(dtype: str, shape: tuple[int, ...], data: bytes) -> None:
    with pytest.raises(DecodeError):
        Tensor(dtype, shape, data)


def test_equality_is_of_dtype_shape_and_bits() -> None:
    one = Tensor("u16", (2,), b"abcd")
    same = Tensor("u16", (2,), memoryview(bytearray(b"abcd")))
    assert one == same
    assert hash(one) == hash(same)
    assert one != Tensor("bf16", (2,), b"abcd")
    assert one != Tensor("u16", (1, 2), b"abcd")
    assert one != Tensor("u16", (2,), b"abce")
    assert one != "abcd"


@pytest.mark.parametrize("tokens", [[], [1], [0, 2**32 - 1]])
def test_tokens_are_u32(tokens: list[int]) -> None:
    tensor = Tensor.of_tokens(tokens)
    assert (tensor.dtype, tensor.shape, tensor.tolist()) == ("u32", (len(tokens),), tokens)
