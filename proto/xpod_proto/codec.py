"""Messages to bytes and back.

`decode` is total: for any bytes whatever it returns a message or raises DecodeError, and it allocates in
proportion to its input. It knows nothing of subjects or of who sent the bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
from pydantic import ValidationError

from xpod_proto.bare import read_bare
from xpod_proto.errors import DecodeError
from xpod_proto.pieces import EXT_PART, pieces_of
from xpod_proto.registry import BY_TAG, Message
from xpod_proto.tensor import EXT_TENSOR, Buffer, Tensor, unpack_tensor

PROTOCOL_VERSION = 1
SHORT_ARRAY = 1024


def _unpack_part(code: int, payload: bytes) -> Tensor:
    if code != EXT_TENSOR:
        raise DecodeError(f"unexpected extension type {code}")
    return unpack_tensor(payload)


def _unpack_ext(code: int, payload: bytes) -> Tensor | Message:
    if code == EXT_PART:  # a part holds no parts, so that nesting cannot multiply memory
        return _decode(payload, _unpack_part)
    return _unpack_part(code, payload)


def encode(message: Message) -> bytes:
    """The wire form of `message`. Raises TypeError for a class that is not registered."""
    return b"".join(pieces_of(message))


def decode(data: Buffer) -> Message:
    """The message in `data`. Raises DecodeError, and nothing else, for bytes that are not one."""
    message = read_bare(data)
    return _decode(data, _unpack_ext) if message is None else message


def _decode(data: Buffer, ext_hook: Callable[[int, bytes], object]) -> Message:
    try:
        parts = _unpack(data, ext_hook)
    except DecodeError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise DecodeError(f"not msgpack: {type(error).__name__}") from error
    if not isinstance(parts, tuple) or not parts or type(parts[0]) is not int:
        raise DecodeError("not a tagged message")
    entry = BY_TAG.get(parts[0])
    if entry is None:
        raise DecodeError(f"unknown message tag {parts[0]}")
    values = parts[1:]
    if not entry.required <= len(values) <= len(entry.fields):
        raise DecodeError(f"{entry.cls.__name__} takes {len(entry.fields)} fields, got {len(values)}")
    return _build(entry.cls, dict(zip(entry.fields, values, strict=False)))


def _unpack(data: Buffer, ext_hook: Callable[[int, bytes], object]) -> object:
    """msgpack takes room for a whole array at its header, so nested lies about lengths would multiply.

    Short arrays are read at once; a longer one only after a pass without objects has found all elements there.
    """
    try:
        return msgpack.unpackb(
            data, ext_hook=ext_hook, use_list=False, strict_map_key=False, max_array_len=SHORT_ARRAY
        )
    except ValueError as error:
        if "max_array_len" not in str(error):
            raise
    reader = msgpack.Unpacker(max_buffer_size=len(data))
    reader.feed(data)
    reader.skip()
    return msgpack.unpackb(data, ext_hook=ext_hook, use_list=False, strict_map_key=False)


def _build(cls: type[Message], values: dict[str, Any]) -> Message:
    try:
        return cls(**values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part)[:80] for part in first["loc"]).encode("unicode_escape").decode()
        raise DecodeError(f"{cls.__name__}.{where}: {first['msg']}") from error
    except (DecodeError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DecodeError(f"{cls.__name__}: {error}") from error
