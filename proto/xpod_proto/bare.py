"""Messages of tensors and whole numbers, read without msgpack: those of the hop, of which a token takes many.

Knows: the same wire form as `codec`, and copies each tensor's elements once.
Does not know: what is wrong with other bytes. It returns None for whatever it does not read, and msgpack decides.
"""

from __future__ import annotations

import struct
from typing import Any

from xpod_proto.registry import BY_TAG, Message
from xpod_proto.tensor import EXT_TENSOR, Buffer, copy_tensor

_FIXED = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_SIZED = {0xC7: struct.Struct(">BB"), 0xC8: struct.Struct(">HB"), 0xC9: struct.Struct(">IB")}
_NUMBERS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}


def read_bare(data: Buffer) -> Message | None:
    """The message in `data` if it is a whole one of those."""
    view = memoryview(data)
    size = len(view)
    if size < 2 or view[1] >= 0x80:
        return None
    entry = BY_TAG.get(view[1])
    if entry is None or not entry.bare or view[0] - 0x91 != len(entry.tensors):
        return None
    values: list[Any] = []
    at = 2
    try:
        for is_tensor in entry.tensors:
            kind = view[at]
            at += 1
            if not is_tensor:
                begin = at
                at += 0 if kind < 0x80 else _NUMBERS[kind]
                values.append(kind if at == begin else int.from_bytes(view[begin:at], "big"))
                continue
            sized = _SIZED.get(kind)
            if sized is not None:
                length, code = sized.unpack_from(view, at)
                begin = at + sized.size
            else:
                length, code, begin = _FIXED[kind], view[at], at + 1
            at = begin + length
            tensor = copy_tensor(view[begin:at]) if code == EXT_TENSOR and at <= size else None
            if tensor is None:
                return None
            values.append(tensor)
    except (IndexError, KeyError, struct.error):  # cut short, or another type
        return None
    return entry.make(*values) if at == size else None
