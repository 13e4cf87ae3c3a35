"""Messages for the codec's tests, derived from the annotations of the registered types.

A message type that is added later is tested without a line here; an annotation that nobody knows raises.
"""

from __future__ import annotations

import math
import types
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgpack
from hypothesis import settings
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from xpod_proto import Message, Tensor, encode
from xpod_proto.registry import BY_CLASS, BY_TAG, Entry

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=150)
ITEM_SIZES = {"u8": 1, "u16": 2, "bf16": 2, "i32": 4, "u32": 4, "fp32": 4, "i64": 8}
ENTRIES = [BY_TAG[tag] for tag in sorted(BY_TAG)]
NAMES = [entry.cls.__name__ for entry in ENTRIES]


def hints(entry: Entry) -> dict[str, Any]:
    """Field name to annotation, in wire order."""
    found = get_type_hints(entry.cls, include_extras=True)
    return {name: found[name] for name in entry.fields}


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(sorted(ITEM_SIZES)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=4)))
    size = math.prod(shape) * ITEM_SIZES[dtype]
    return Tensor(dtype, shape, draw(st.binary(min_size=size, max_size=size)))


def _numbers(base: type, metadata: list[Any]) -> st.SearchStrategy[Any]:
    bounds = [bound for field in metadata if isinstance(field, FieldInfo) for bound in field.metadata]
    low = next((v for b in bounds if (v := getattr(b, "ge", getattr(b, "gt", None))) is not None), None)
    high = next((v for b in bounds if (v := getattr(b, "le", None)) is not None), None)
    if base is int:
        return st.integers(-(2**63) if low is None else low, 2**64 - 1 if high is None else high)
    return st.floats(low, high, allow_nan=False, exclude_min=any(hasattr(b, "gt") for b in bounds))


SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(),
    bytes: st.binary(),
    bool: st.booleans(),
    int: _numbers(int, []),
    float: _numbers(float, []),
    Tensor: tensors(),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Every value that the annotation allows and msgpack can carry (no NaN, which equals nothing)."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is None:
        return SIMPLE[hint] if hint in SIMPLE else messages(BY_CLASS[hint])
    if origin is Annotated:
        return _numbers(args[0], list(args[1:])) if (args[0] is int or args[0] is float) else values(args[0])
    if origin in (Union, types.UnionType):
        return st.one_of([values(arg) for arg in args])
    if origin is dict:
        return st.dictionaries(values(args[0]), values(args[1]), max_size=4)
    if args[1:] == (Ellipsis,):
        return st.lists(values(args[0]), max_size=4).map(tuple)
    return st.tuples(*[values(arg) for arg in args])


def messages(entry: Entry) -> st.SearchStrategy[Message]:
    return st.builds(entry.cls, **{name: values(hint) for name, hint in hints(entry).items()})


ANY_MESSAGE = st.one_of([messages(entry) for entry in ENTRIES])


def plain(hint: Any) -> Any:
    """One small value for an annotation, always the same."""
    origin, args = get_origin(hint), get_args(hint)
    simple = {str: "a", bytes: b"b", bool: True, int: 1, float: 0.5, Tensor: Tensor("u8", (1,), b"t")}
    if origin in (Annotated, Union, types.UnionType):
        return plain(args[0])
    if origin is None and hint in simple:
        return simple[hint]
    if origin is dict:
        return {plain(args[0]): plain(args[1])}
    if origin is tuple:
        return tuple(plain(arg) for arg in args if arg is not Ellipsis)
    return sample(BY_CLASS[hint])


def sample(entry: Entry) -> Message:
    return entry.cls(**{name: plain(hint) for name, hint in hints(entry).items()})


def wire_fields(message: Message) -> list[Any]:
    """[tag, field, ...] as msgpack sees it; tensors and parts stay ExtType."""
    fields: list[Any] = msgpack.unpackb(encode(message), strict_map_key=False)
    return fields
